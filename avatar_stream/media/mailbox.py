"""A mailbox between two stages: it holds only the newest item.

A queue between a camera and a slower computation grows without limit (measured: 9.7 s of delay after 25 s). With a
mailbox, the delay is that of the computation alone.
"""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class MailboxClosed(Exception):
    """The mailbox was closed."""


class Mailbox(Generic[T]):
    """Thread-safe; ``dropped`` counts items that were replaced before they were taken."""

    def __init__(self) -> None:
        self.dropped = 0
        self._item: T | None = None
        self._full = False
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Put ``item``, and drop one that was not taken yet. After :meth:`close` it is dropped."""
        with self._changed:
            if self._closed:
                return
            self.dropped += self._full
            self._item, self._full = item, True
            self._changed.notify()

    def take(self, timeout: float | None = None) -> T:
        """Wait for the newest item and take it.

        Raises :class:`TimeoutError` after ``timeout`` seconds, :class:`MailboxClosed` once closed. An item that still
        waits is then dropped, because nobody would see it.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._full or self._closed, timeout):
                raise TimeoutError
            if self._closed:
                raise MailboxClosed
            item, self._item, self._full = self._item, None, False
            return item  # type: ignore[return-value]

    def close(self) -> None:
        """Wake all waiting threads; may be called twice."""
        with self._changed:
            self._closed = True
            self._item, self._full = None, False
            self._changed.notify_all()
