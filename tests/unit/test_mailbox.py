import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_stream.media.mailbox import Mailbox, MailboxClosed
from tests.waiting import TEST_TIMEOUT


@given(st.lists(st.one_of(st.integers(0, 99), st.none()), max_size=60))
def test_only_the_newest_item_is_delivered_and_only_once(steps: list[int | None]) -> None:
    """Numbers are put, None takes: a take gets the last put, and every dropped item is counted."""
    box: Mailbox[int] = Mailbox()
    waiting: int | None = None
    dropped = 0
    for step in steps:
        if step is not None:
            dropped += waiting is not None
            box.put(step)
            waiting = step
        elif waiting is None:
            with pytest.raises(TimeoutError):
                box.take(0)
        else:
            assert box.take(0) == waiting
            waiting = None
    assert box.dropped == dropped


def test_closing_wakes_a_waiting_thread() -> None:
    box: Mailbox[int] = Mailbox()
    seen: list[str] = []

    def take() -> None:
        try:
            box.take()
        except MailboxClosed:
            seen.append("closed")

    thread = threading.Thread(target=take)
    thread.start()
    time.sleep(0.02)
    box.close()
    box.close()
    box.put(1)
    thread.join(TEST_TIMEOUT)
    assert seen == ["closed"]


def test_none_can_be_an_item() -> None:
    box: Mailbox[int | None] = Mailbox()
    box.put(None)
    assert box.take(0) is None
    with pytest.raises(TimeoutError):
        box.take(0)
