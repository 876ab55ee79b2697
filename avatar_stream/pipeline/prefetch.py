"""Stages of a loop beside each other: each iterator on its own thread, a few items ahead of who takes them."""

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")
AHEAD = 4  # items a stage may run ahead of the next: memory stays small, no core waits


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Run an iterator on its own thread, a few items ahead; its exceptions arrive where it is consumed."""
    buffer: queue.Queue[tuple[bool, Any]] = queue.Queue(AHEAD)
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

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
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
        worker.join()
