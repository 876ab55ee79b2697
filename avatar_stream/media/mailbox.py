"""A mailbox between two stages: it holds one item, and the newest wins.

Queues between a camera and a slower computation grow without end (measured: 9.7 s behind after 25 s); a mailbox keeps
the delay at the work itself.
"""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class MailboxClosed(Exception):
    """The mailbox was closed; nothing more will come."""


class Mailbox(Generic[T]):
    """Thread-safe; ``dropped`` counts items replaced before anybody took them."""

    def __init__(self) -> None:
        self.dropped = 0
        self._item: T | None = None
        self._full = False
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Leave ``item``, in place of one not yet taken. After :meth:`close` it is thrown away."""
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
        """Wake everybody who waits; safe to call twice."""
        with self._changed:
            self._closed = True
            self._item, self._full = None, False
            self._changed.notify_all()
