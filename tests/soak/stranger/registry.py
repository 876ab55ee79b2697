"""The list of attempts; :func:`attempt` adds one."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.soak.stranger.allowed_loss import AllowedLoss

if TYPE_CHECKING:
    from tests.soak.stranger.environment import Environment

Run = Callable[["Environment"], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. The server is started with ``processes`` session processes (None: the default number)."""

    name: str
    title: str
    run: Run
    processes: int | None
    after: float  # seconds; the bystander is observed for so long after the attempt
    short: bool  # runs with --quick and in `make test`
    alone: bool  # damages the server or its library: the next attempt gets a new server
    small_disk: bool  # the library is on a disk of 4 MB
    allowed_loss: AllowedLoss
    reference: bool  # harmless: what others are compared with, so its pictures are not judged


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
    allowed_loss: AllowedLoss = AllowedLoss.NOTHING,
    reference: bool = False,
) -> Callable[[Run], Run]:
    """Decorator that registers an attempt; see :class:`Attempt`."""

    def add(run: Run) -> Run:
        assert name not in ATTEMPTS, f"two attempts are called {name}"
        ATTEMPTS[name] = Attempt(
            name, title, run, processes, after, short, alone, small_disk, allowed_loss, reference
        )
        return run

    return add


def chosen(only: Iterable[str], short: bool) -> list[Attempt]:
    """Attempts whose name begins with one of ``only`` (all if empty), sorted so that they share servers."""
    beginnings = tuple(only)
    found = [
        one
        for one in ATTEMPTS.values()
        if (not beginnings or one.name.startswith(beginnings)) and (one.short or not short)
    ]
    return sorted(found, key=lambda one: (one.small_disk, one.alone, one.processes or 0))
