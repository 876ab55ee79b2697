"""The list of attempts; :func:`attempt` adds one."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.soak.stranger.loss import Loss

if TYPE_CHECKING:
    from tests.soak.stranger.world import World

Run = Callable[["World"], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. The server is started with ``processes`` worker processes (None: as by default)."""

    name: str
    title: str
    run: Run
    processes: int | None
    after: float  # seconds that the bystander is counted once the attempt is over
    short: bool  # part of the short form, which `make test` runs
    alone: bool  # ruins the server or its library: the next attempt gets a new one
    small_disk: bool  # the library is on a disk of 4 MB
    loss: Loss


ATTEMPTS: dict[str, Attempt] = {}


def attempt(
    name: str,
    title: str,
    *,
    processes: int | None = None,
    after: float = 5.0,
    short: bool = False,
    alone: bool = False,
    small_disk: bool = False,
    loss: Loss = Loss.NOTHING,
) -> Callable[[Run], Run]:
    """Add an attempt; see :class:`Attempt`."""

    def add(run: Run) -> Run:
        assert name not in ATTEMPTS, f"two attempts are called {name}"
        ATTEMPTS[name] = Attempt(name, title, run, processes, after, short, alone, small_disk, loss)
        return run

    return add


def chosen(only: Iterable[str], short: bool) -> list[Attempt]:
    """Attempts whose name begins with one of ``only`` (all for none), those together that want the same server."""
    beginnings = tuple(only)
    found = [
        one
        for one in ATTEMPTS.values()
        if (not beginnings or one.name.startswith(beginnings)) and (one.short or not short)
    ]
    return sorted(found, key=lambda one: (one.small_disk, one.alone, one.processes or 0))
