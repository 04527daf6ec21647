"""The program takes as many open files as it may have, whatever little its shell gives."""

import resource
import subprocess
import sys
from pathlib import Path

from gateway.__main__ import FILES

ROOT = Path(__file__).parents[2]
STARTED_WITH = 256
PROGRAM = f"""
import resource, sys
from gateway import __main__

resource.setrlimit(resource.RLIMIT_NOFILE, ({STARTED_WITH}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
__main__.uvloop.run = lambda serving: (serving.close(), print(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
sys.exit(__main__.main())
"""


def test_the_gateway_has_more_files_than_it_was_started_with(tmp_path: Path) -> None:
    (tmp_path / "inferway.yaml").write_text("{}")
    command = [sys.executable, "-c", PROGRAM, "--config", str(tmp_path / "inferway.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    assert int(done.stdout.splitlines()[-1]) == wanted > STARTED_WITH
