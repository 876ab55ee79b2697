"""Stages of a loop at the same time: an iterator runs on its own thread, a few items ahead of its consumer."""

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")
PREFETCH_ITEMS = 4  # enough that no core waits, and few enough that memory stays small


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """Run an iterator on its own thread, a few items ahead; its exceptions reach the consumer."""
    buffer: queue.Queue[tuple[bool, Any]] = queue.Queue(PREFETCH_ITEMS)
    stopped = threading.Event()

    def offer(entry: tuple[bool, Any]) -> bool:
        while not stopped.is_set():
            try:
                buffer.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer((True, item)):
                    return
            offer((False, None))
        except BaseException as error:
            offer((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            more, item = buffer.get()
            if more:
                yield item
            elif item is not None:
                raise item
            else:
                return
    finally:
        stopped.set()
        thread.join()
