"""Threads whose work can wait, behind those that make pictures."""

import os
import sys
import threading
from typing import Final

BACKGROUND_NICENESS: Final = 10


def work_behind() -> None:
    """Let the thread that calls this work while others wait only.

    On Linux each thread has a niceness of its own (sched(7)), and threads that it starts inherit it. Elsewhere it
    would be the whole process's, so nothing is done.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)
