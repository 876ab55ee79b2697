"""The pipe between a server and a process of sessions, both ends in one process."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import AsyncIterator
from typing import Any

import pytest

from avatar_stream.errors import AvatarError, NotFound, UnknownPortrait, WrongType
from avatar_stream.server.pipe import Handler, Pipe, ProcessGone
from tests.waiting import within


@contextlib.asynccontextmanager
async def two_ends(handlers: dict[str, Handler]) -> AsyncIterator[tuple[Pipe, asyncio.Event]]:
    """One that asks, and the event that its other end is gone; the other one has ``handlers``."""
    here, there = multiprocessing.Pipe()
    gone = asyncio.Event()
    asking, answering = Pipe(here, {}, gone.set), Pipe(there, handlers, lambda: None)
    try:
        yield asking, gone
    finally:
        answering.close()
        await within(gone.wait())


async def test_calls_are_answered_by_their_number_whichever_ends_first() -> None:
    go_on = asyncio.Event()

    async def wait(word: str) -> str:
        await go_on.wait()
        return word

    told: list[int] = []
    async with two_ends({"wait": wait, "double": lambda x: 2 * x, "note": told.append}) as (pipe, _):
        slow = asyncio.create_task(pipe.call("wait", "slow"))
        pipe.tell("note", 7)
        assert await pipe.call("double", 21) == 42
        assert await pipe.call("double", b"a" * 3_000_000) == b"a" * 6_000_000
        assert told == [7]
        go_on.set()
        assert await slow == "slow"


class Stubborn(Exception):
    """Cannot be made again from its text."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


async def test_errors_come_back_as_what_they_are(caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Any) -> None:
        raise Stubborn("a", "b") if error is None else error

    async with two_ends({"fail": fail}) as (pipe, _):
        for error in (NotFound("no such session"), UnknownPortrait("choose it again")):
            with pytest.raises(type(error), match=str(error)):
                await pipe.call("fail", error)
        assert not caplog.records  # what a visitor did wrong is no fault of ours
        with pytest.raises(ValueError, match="broken"):
            await pipe.call("fail", ValueError("broken"))
        with pytest.raises(AvatarError, match="a b"):
            await pipe.call("fail", None)
        with pytest.raises(AvatarError):
            await pipe.call("fail", WrongType("application/sdp"))
        with pytest.raises(KeyError):
            await pipe.call("unheard of")
        with pytest.raises(AvatarError, match="given up"):
            await pipe.call("fail", asyncio.CancelledError())
    assert any("broken" in str(record.exc_info) for record in caplog.records)


async def test_whoever_waits_is_told_that_the_other_end_is_gone() -> None:
    here, there = multiprocessing.Pipe()
    gone = asyncio.Event()
    pipe = Pipe(here, {}, gone.set)
    waiting = asyncio.create_task(pipe.call("anything"))
    await asyncio.sleep(0.1)
    there.close()
    with pytest.raises(ProcessGone, match="try again"):
        await within(waiting)
    assert gone.is_set()
    assert pipe.gone
    with pytest.raises(ProcessGone):
        await pipe.call("anything")
    pipe.tell("anything")  # nobody is there: no error either
