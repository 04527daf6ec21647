"""Memory that was freed is used again: by the page faults of a process, which do not depend on time."""

import subprocess
import sys

import pytest

PAGES = """
import resource, sys
from gateway.freed_memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()

def faults(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [b"x" * 2**20 for _ in range(megabytes)]
        del blocks
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (20 * megabytes)

faults(8)
print(faults(8))
"""


@pytest.mark.parametrize(("how", "most", "least"), [("kept", 8, 0), ("as it is", 257, 128)])
def test_a_block_of_a_mebibyte_has_new_pages_only_where_freed_memory_is_not_kept(
    how: str, most: int, least: int
) -> None:
    run = [sys.executable, "-c", PAGES, how]
    told = subprocess.run(run, capture_output=True, text=True, check=True)
    assert least <= float(told.stdout) <= most
