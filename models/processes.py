"""Runs programs of the environments in .venvs/: each form is made and tried where its framework is."""

import os
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONWARNINGS": "ignore"}
"""Frameworks say much; the last line of a failure must be its reason."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
"""Several programs run at once, one a core: more threads than cores would only wait for one another."""


class BuildError(RuntimeError):
    """Something could not be built; the text is one line, with the mend."""


def run(environment: str, program: str, *arguments: str) -> None:
    """Run a program of an environment in the repository's root; its output is shown only when it fails.

    Raises:
        BuildError: the environment is missing, or the program fails; the text has the last line that it
        printed.
    """
    path = ROOT / ".venvs" / environment / "bin" / program
    if not path.exists():
        raise BuildError(f"the environment .venvs/{environment} is missing: run `make env-{environment}`")
    done = subprocess.run(
        [str(path), *arguments],
        cwd=ROOT,
        env={**os.environ, **QUIET, **ONE_THREAD},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        shown = shlex.join([f".venvs/{environment}/bin/{program}", *arguments])
        raise BuildError(f"{lines[-1]} (exit {done.returncode} of: {shown})")
