"""What becomes of memory that is freed: it is used again, and does not go back to the kernel at once.

A request of some hundred kilobytes is copied several times, each time into memory of its own. glibc gives
such memory back as soon as it is free, and the kernel makes every page of it anew for the next request: four
fifths of what it costs to receive 602 kB (docs/performance.md). By its own rule glibc does so whenever what
lies free at the end of the heap is more than twice the largest block that was ever freed.
"""

import ctypes

MMAP_BYTES = 32 * 1024 * 1024
"""Blocks from this size on are the kernel's own, and go back when they are freed."""
FREE_BYTES = 64 * 1024 * 1024
"""So much may lie free at the end of the heap. glibc's own rule comes to both numbers once a block of 32 MiB
was freed; here they hold from the start, and no other memory stays than would then."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Say so to glibc; another C library is left as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, FREE_BYTES)
