"""Generate the `_pb2` modules from the .proto files beside this one: `python -m services.protocol.generate`.

The messages have package names of their own (`inferway.*`) with the field numbers of the originals: the bytes
on the wire are the same, and a process may hold the official stubs beside ours without a clash.
"""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run protoc over every .proto file; return its exit code."""
    protos = sorted(str(path.relative_to(ROOT)) for path in Path(__file__).parent.glob("*.proto"))
    includes = [f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]  # google/protobuf/*.proto
    plugin = f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}"
    outs = (f"--python_out={ROOT}", f"--mypy_out={ROOT}")
    return int(protoc.main(["protoc", plugin, *includes, *outs, *protos]))


if __name__ == "__main__":
    sys.exit(main())
