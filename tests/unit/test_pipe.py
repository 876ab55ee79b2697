"""The pipe between a server and a session process, with both ends in one process."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import AsyncIterator
from typing import Any

import pytest

from avatar_stream.errors import AvatarError, NotFound, UnknownPortrait, WrongType
from avatar_stream.server.ipc.pipe import Handler, Pipe, ProcessGone, Unsendable
from tests.waiting import within


@contextlib.asynccontextmanager
async def pipe_ends(handlers: dict[str, Handler]) -> AsyncIterator[tuple[Pipe, asyncio.Event]]:
    """The calling end and the event that the other end, which has ``handlers``, has closed."""
    here, there = multiprocessing.Pipe()
    gone = asyncio.Event()
    asking, answering = Pipe(here, {}, gone.set), Pipe(there, handlers, lambda: None)
    try:
        yield asking, gone
    finally:
        answering.close()
        await within(gone.wait())


async def test_answers_match_their_calls_in_any_order() -> None:
    go_on = asyncio.Event()

    async def wait(word: str) -> str:
        await go_on.wait()
        return word

    told: list[int] = []
    async with pipe_ends({"wait": wait, "double": lambda x: 2 * x, "note": told.append}) as (pipe, _):
        slow = asyncio.create_task(pipe.call("wait", "slow"))
        pipe.notify("note", 7)
        assert await pipe.call("double", 21) == 42
        assert await pipe.call("double", b"a" * 3_000_000) == b"a" * 6_000_000
        assert told == [7]
        go_on.set()
        assert await slow == "slow"


class Stubborn(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


async def test_errors_keep_their_types(caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Any) -> None:
        raise Stubborn("a", "b") if error is None else error

    async with pipe_ends({"fail": fail}) as (pipe, _):
        for error in (NotFound("no such session"), UnknownPortrait("choose it again")):
            with pytest.raises(type(error), match=str(error)):
                await pipe.call("fail", error)
        assert not caplog.records  # a client's error is not logged
        with pytest.raises(ValueError, match="broken"):
            await pipe.call("fail", ValueError("broken"))
        with pytest.raises(AvatarError, match="a b"):
            await pipe.call("fail", None)
        with pytest.raises(AvatarError):
            await pipe.call("fail", WrongType("application/sdp"))
        with pytest.raises(KeyError):
            await pipe.call("unheard of")
        with pytest.raises(AvatarError, match="cancelled"):
            await pipe.call("fail", asyncio.CancelledError())
    assert any("broken" in str(record.exc_info) for record in caplog.records)


async def test_pending_calls_fail_when_the_other_end_closes() -> None:
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
    pipe.notify("anything")  # without the other end this is no error


def nested(depth: int) -> Any:
    """A list too deeply nested for pickle, which raises RecursionError."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


class Poison:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return _fail, ()


def _fail() -> None:
    raise LookupError("this cannot be made again")


class Unpicklable:
    def __reduce__(self) -> Any:
        raise OSError("this cannot be sent")


@pytest.mark.parametrize("thing", [nested(100_000), Unpicklable(), lambda: None, Poison()], ids=type)
async def test_an_unpicklable_message_fails_only_its_call(thing: Any) -> None:
    """The pipe goes on, in both directions."""
    told: list[int] = []
    handlers: dict[str, Handler] = {"give": lambda: thing, "take": lambda what: None, "note": told.append}
    async with pipe_ends(handlers) as (pipe, gone):
        for ask in (pipe.call("give"), pipe.call("take", thing)):
            with pytest.raises(Unsendable, match="cannot be"):
                await asyncio.wait_for(ask, 5)
        if not isinstance(thing, Poison):
            with pytest.raises(Unsendable):
                pipe.notify("take", thing)
        pipe.notify("note", 1)
        await asyncio.wait_for(pipe.ping(), 5)
        assert told == [1]
        assert not pipe.gone
        assert not gone.is_set()
        assert pipe._answers == {}


async def test_an_error_in_a_notification_is_logged() -> None:
    def fail() -> None:
        raise StopIteration("over")

    async with pipe_ends({"fail": fail}) as (pipe, _):
        with pytest.raises(AvatarError, match="over"):
            await asyncio.wait_for(pipe.call("fail"), 5)


class Failing:
    """A connection that fails in one direction once ``broken`` is set."""

    def __init__(self, connection: Any, way: str) -> None:
        self.connection, self.way, self.broken = connection, way, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def send_bytes(self, data: bytes) -> None:
        if self.broken and self.way == "write":
            raise RecursionError("a fault of the writing thread")
        self.connection.send_bytes(data)

    def recv_bytes(self) -> bytes:
        data: bytes = self.connection.recv_bytes()
        if self.broken and self.way == "read":
            raise MemoryError("a fault of the reading thread")
        return data


@pytest.mark.parametrize("way", ["write", "read"])
@pytest.mark.parametrize("side", ["ours", "theirs"])
async def test_a_failing_thread_closes_both_ends(side: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    here, there = multiprocessing.Pipe()
    failing = Failing(here if side == "ours" else there, way)
    ends = (failing, there) if side == "ours" else (here, failing)
    events = [asyncio.Event(), asyncio.Event()]
    asking, answering = (
        Pipe(connection, {}, event.set)  # type: ignore[arg-type]
        for connection, event in zip(ends, events, strict=True)
    )
    await asyncio.wait_for(asking.ping(), 5)
    failing.broken = True
    with pytest.raises(ProcessGone):
        await asyncio.wait_for(asking.ping(), 5)
    for event in events:
        await asyncio.wait_for(event.wait(), 5)
    assert asking.gone
    assert answering.gone
    assert any("a pipe between processes failed" in record.message for record in caplog.records)
