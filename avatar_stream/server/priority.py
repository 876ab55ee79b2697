"""Lower scheduling priority for threads whose work can wait, so that those that draw pictures run first."""

import os
import sys
import threading
from typing import Final

BACKGROUND_NICENESS: Final = 10


def lower_thread_priority() -> None:
    """Raise the niceness of the calling thread.

    On Linux each thread has its own niceness (sched(7)), and threads that it starts inherit it. On other systems
    niceness belongs to the whole process, so this does nothing.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)
