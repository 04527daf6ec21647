"""What a measurement ran on: it bounds what the numbers mean."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp")
"""What decides how fast int8 is."""
BYTE_PRODUCTS = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp")
"""Those that multiply and add bytes in one instruction; without them int8 gains much less."""
PACKAGES = ("torch", "onnxruntime", "onnx", "numpy", "scikit-learn")


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """CPU, cores, and those of its instructions that matter here."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "has_byte_products": any(name in flags for name in BYTE_PRODUCTS),
    }


def packages() -> dict[str, str]:
    """Versions of the packages that compute, those that are installed; and Python's."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
