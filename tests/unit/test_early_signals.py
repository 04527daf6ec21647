"""SIGHUP asks for a reload from the first moment on: by default it would end a gateway that starts."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys
from gateway import __main__

def hang_up():
    os.kill(os.getpid(), signal.SIGHUP)

load = __main__.load_settings
__main__.load_settings = lambda path: (hang_up(), load(path))[1]
__main__.uvloop.run = lambda serving: (serving.close(), hang_up())
__main__.Reloads.ask = lambda self: print("asked")
sys.exit(__main__.main())
"""


def test_a_gateway_that_is_asked_to_reload_while_it_starts_does_so_once_it_has(tmp_path: Path) -> None:
    (tmp_path / "inferway.yaml").write_text("{}")
    command = [sys.executable, "-c", PROGRAM, "--config", str(tmp_path / "inferway.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["asked", "asked"])
