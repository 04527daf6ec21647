"""Looks for secrets in the files of the repository: `make lint`.

The detectors are those of detect-secrets, and two of our own: for API keys, and for Redis' passwords. Two are
left out: hexadecimal strings are digests here (of weights, data sets and caches), and IP addresses are
examples. A line that only looks like a secret says so: `# pragma: allowlist secret`. Nothing leaves the
machine. A file is read again only when it has changed: the whole tree takes about 20 seconds.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).parents[1]
CLEAN = ROOT / "build" / "secret_scan.json"
LEFT_OUT = {"HexHighEntropyString", "IPPublicDetector"}
GENERATED = re.compile(
    r"docs/reports/|models/.+\.(json|txt)$|constraints\.txt$|.+_pb2\.pyi?$|.+\.(safetensors|pth|zip|png|jpg|ico)$"
)
"""Not read: weights, pictures, and what a program writes."""
FILTERS = (
    "allowlist.is_line_allowlisted",
    *(
        f"heuristic.{rule}"
        for rule in (
            "is_indirect_reference",
            "is_likely_id_string",
            "is_not_alphanumeric_string",
            "is_potential_uuid",
            "is_prefixed_with_dollar_sign",
            "is_sequential_string",
            "is_templated_secret",
        )
    ),
)
"""What detect-secrets takes for no secret, by its own rules."""
_HOLDS_ONE = r"""://[^/\s@]*:[^/\s@]+@|password["']?\s*[:=]"""
NAMES = (rf"""^(?!.*(?:{_HOLDS_ONE})).*(?:secretName|_file\b|Secret `)""", r'_URL = "rediss?://[^@"]+"')
"""Lines that name the place of a secret, and hold none."""


class InferwayKeyDetector(RegexBasedDetector):
    """Finds API keys of the gateway."""

    secret_type = "Inferway API key"  # noqa: S105 - its name # pragma: allowlist secret
    denylist = (re.compile(r"ifw_[0-9a-f]{12}_[A-Za-z0-9_-]{43}"),)


class RedisPasswordDetector(RegexBasedDetector):
    """Finds passwords in addresses without a user, which detect-secrets does not, and after `requirepass`."""

    secret_type = "Redis password"  # noqa: S105 - its name # pragma: allowlist secret
    denylist = (re.compile(r"""://:([^/\s@"'{$<]+)@"""), re.compile(r"requirepass\s+(\w{8,})"))


def find(root: Path, names: Iterable[str]) -> Iterator[str]:
    """What looks like a secret, as `file:line: kind`.

    Args:
        root: what the names are relative to.
        names: of the files.
    """
    known: Iterable[type] = get_mapping_from_secret_type_to_class().values()
    detectors = {kind.__name__ for kind in known} - LEFT_OUT
    here = f"file://{Path(__file__).resolve()}"
    ours = [{"name": kind.__name__, "path": here} for kind in (InferwayKeyDetector, RedisPasswordDetector)]
    plugins = [{"name": name} for name in sorted(detectors - {one["name"] for one in ours})]
    get_mapping_from_secret_type_to_class.cache_clear()  # it knows those of the last settings only
    filters: list[dict[str, object]] = [{"path": f"detect_secrets.filters.{rule}"} for rule in FILTERS]
    filters.append({"path": "detect_secrets.filters.regex.should_exclude_line", "pattern": list(NAMES)})
    with transient_settings({"plugins_used": [*plugins, *ours], "filters_used": filters}) as settings:
        settings.disable_filters("detect_secrets.filters.common.is_invalid_file")
        for name in names:
            found = SecretsCollection(root=str(root))
            found.scan_file(name)
            for _, secret in found:
                yield f"{name}:{secret.line_number}: {secret.type}"


def main() -> int:
    """Scan what git knows or would add; 1 if anything looks like a secret."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = [name for name in listed.stdout.split("\0") if name and not GENERATED.match(name)]
    states = {name: _state(ROOT / name) for name in names if (ROOT / name).is_file()}
    clean = _clean()
    faults = list(find(ROOT, [name for name, state in states.items() if clean.get(name) != state]))
    faulty = {fault.partition(":")[0] for fault in faults}
    CLEAN.parent.mkdir(exist_ok=True)
    CLEAN.write_text(json.dumps({name: state for name, state in states.items() if name not in faulty}))
    for fault in faults:
        sys.stderr.write(f"{fault}: looks like a secret; take it out, or add `pragma: allowlist secret`\n")
    return 1 if faults else 0


def _clean() -> Mapping[str, str]:
    return json.loads(CLEAN.read_text()) if CLEAN.exists() else {}


def _state(path: Path) -> str:
    """Another whenever the file or the rules change."""
    digest = hashlib.sha256(path.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
