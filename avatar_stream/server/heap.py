"""Keeps glibc's heap small in a process whose many threads start and end with sessions.

glibc gives each thread its own arena and keeps memory that is freed there: after fifty visits a server held 170 MB
more than after ten. Two arenas and a trim at the end of each session keep it constant. Other systems: no effect.
"""

import ctypes
import sys
from typing import Any, Final

M_ARENA_MAX: Final = -8  # malloc.h
M_MMAP_THRESHOLD: Final = -3


def _libc() -> Any:
    try:
        return ctypes.CDLL("libc.so.6") if sys.platform == "linux" else None
    except OSError:  # musl
        return None


def limit_arenas(count: int = 2, mmap_threshold: int = 1 << 20) -> None:
    """Let all threads share ``count`` arenas; call it before threads start.

    Blocks of ``mmap_threshold`` bytes or more return to the system as soon as they are freed; a frame is smaller.
    """
    libc = _libc()
    if libc is not None:
        libc.mallopt(M_ARENA_MAX, count)
        libc.mallopt(M_MMAP_THRESHOLD, mmap_threshold)


def trim_heap() -> None:
    """Return free memory to the system; takes some milliseconds."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
