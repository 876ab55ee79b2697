"""A server, its bystander, and what one attempt does to them."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import psutil

from avatar_stream.identity.library import SAMPLES
from avatar_stream.server.access import make_token
from tests.soak.bench import Client, ServerProcess, stop_all
from tests.soak.client import authorization
from tests.soak.stranger.loss import Loss
from tests.soak.stranger.registry import Attempt
from tests.waiting import PATIENCE, server_flags

BEFORE: Final = 3  # seconds that the bystander is counted before an attempt
LONGEST: Final = 240.0  # seconds for one attempt
GONE: Final = 45.0  # seconds that sessions of guests get to end before the next attempt
PICTURES: Final = 25  # new ones, by which a session that goes on is known
SESSIONS: Final = 6  # that the server lets in
WARM: Final = 2  # rounds of so many before anything is counted: MediaPipe's graphs are handed on, and never given up
LAST: Final = 5  # seconds that count after an attempt
CALM: Final = 10.0  # seconds more until they begin, at most
ENOUGH: Final = 24.5  # pictures a second
SETTLE: Final = 12.0  # seconds that memory gets to come back
SMALL_DISK: Final = 4 << 20  # bytes
PEOPLE: Final = {
    "bystander": "publish,view",
    "mallory": "publish,view",
    "publisher": "publish",
    "watcher": "view",
    "boss": "admin,publish,view",
}
"""Tokens of the server, and what each may do. Mallory is who attempts things where a token is needed."""


@dataclass
class Outcome:
    """What an attempt came to. Pictures are the bystander's, a second."""

    name: str
    title: str
    answer: str
    before: float
    beside: float  # the same beside its guest who did nothing yet; as before where it had none
    during: list[int]
    after: list[int]
    memory_before: float
    memory_after: float
    tracebacks: int
    log_lines: int
    seconds: float
    workers_lost: int
    broken: list[str] = field(default_factory=list)
    again: bool = False  # it was made a second time


class World:
    """Used from one event loop. ``seconds`` is how long an attempt that goes on goes on.

    ``launcher`` starts the server and the bystander, with its own priority. With ``strict`` the bystander's pictures
    are counted by the second, for the soak. Without, for a test on a machine that may have other work, it is only
    waited for: they must go on.
    """

    def __init__(
        self,
        engine: str,
        seconds: float,
        launcher: Executor,
        processes: int | None = None,
        *,
        small_disk: bool = False,
        strict: bool = True,
    ) -> None:
        self.strict = strict
        self.engine, self.seconds, self.processes, self.small_disk = engine, seconds, processes, small_disk
        self._launcher = launcher
        self.folder = Path(tempfile.mkdtemp(prefix="strangers-"))
        self.library = self.folder / "library"
        self.tokens: dict[str, str] = {}
        self.broken: list[str] = []
        self._calm: list[int] = []
        self._beside: list[int] | None = None
        self._begun: float | None = None
        self.server: ServerProcess
        self.bystander: Client
        self._clip = Path(tempfile.gettempdir()) / f"strangers-clip-{os.getuid()}.pickle"

    @property
    def url(self) -> str:
        """The server's."""
        return self.server.url

    @property
    def port(self) -> tuple[str, int]:
        """Where the server listens for the bystander's media."""
        host, port = next((host, port) for host, port in self.bystander.said["ports"] if host)
        return host, port

    def who(self, name: str) -> dict[str, str]:
        """The headers by which somebody is known."""
        return authorization(self.tokens[name])

    def broke(self, sentence: str) -> None:
        """Say that a promise was broken."""
        if sentence not in self.broken:
            self.broken.append(sentence)

    def processes_of(self) -> list[psutil.Process]:
        """Worker processes: those whose memory says that they host sessions."""
        found = psutil.Process(self.server.process.pid).children(recursive=True)
        return [one for one in found if _hosts(one, found)]

    def worker_of_bystander(self) -> psutil.Process:
        """The process that listens on its port."""
        for one in self.processes_of():
            if any(link.laddr.port == self.port[1] for link in one.net_connections("udp")):
                return one
        raise LookupError("nobody listens on the bystander's port")

    async def start(self) -> None:
        """Start the server and let the bystander in; each kind of session has been there once then."""
        await asyncio.get_running_loop().run_in_executor(self._launcher, self._start)
        await self._let_in()

    def _start(self) -> None:
        lines = []
        for name, scopes in PEOPLE.items():
            self.tokens[name], line = make_token(name, scopes.split(","))
            lines.append(line)
        (self.folder / "tokens").write_text("\n".join(lines) + "\n")
        if self.small_disk:
            self.library.mkdir()
            size = f"size={SMALL_DISK}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.library], check=True)
        own = [] if self.processes is None else ["--processes", str(self.processes)]
        self.server = ServerProcess(
            *("--engine", self.engine, "--tokens", str(self.folder / "tokens"), "--library", str(self.library)),
            *(
                "--sessions",
                str(SESSIONS),
                "--sessions-per-address",
                str(SESSIONS),
                "--uploads-per-minute",
                "3000",
                *own,
            ),
            *(("--header-timeout", "2", "--body-timeout", "2") if self.strict else server_flags()),
            token=self.tokens["boss"],
        )
        self.server.wait_ready()

    async def _let_in(self) -> None:
        from tests.soak.stranger.guest import Guest

        for _ in range(WARM if self.strict else 1):
            async with AsyncExitStack() as stack:
                roles = ("both", "publish") * (SESSIONS // 2 if self.strict else 1)
                guests = [await stack.enter_async_context(Guest(self, role).joined()) for role in roles]
                await guests[0].pictures(10)
        if self.strict:
            for _ in range(2):
                await asyncio.gather(self._enrol_and_remove("One"), self._enrol_and_remove("Two"))
        await asyncio.to_thread(self.server.wait_empty)
        url, token = f"{self.url}/session?session=bystander", f"--token={self.tokens['bystander']}"
        self.bystander = await asyncio.get_running_loop().run_in_executor(
            self._launcher, Client.start, url, "--seconds", "100000", token, "--clip", str(self._clip)
        )
        status = await asyncio.to_thread(self.bystander.wait_answer)
        if status != 201:
            raise SystemExit(f"the bystander was not let in: {status}")
        await self._goes_on("before any attempt")
        until = time.monotonic() + 40
        while self.strict and time.monotonic() < until and (await self._counted(2))[-1] < 20:
            pass

    async def _enrol_and_remove(self, name: str) -> None:
        """The networks that look at an enrolment are loaded by the first one, and stay."""
        async with self.http("mallory") as client:
            upload = (await client.post("/identities", content=(SAMPLES / "noor.jpg").read_bytes())).json()["id"]
            body = {"pictures": [upload], "name": name, "consent": "A sample portrait that is shipped for this"}
            key = (await client.post("/identities", json=body)).json()["id"]
            for one in (key, upload):
                await client.delete(f"/identities/{one}")

    async def stop(self) -> list[str]:
        """End everything; the server's log."""
        if hasattr(self, "bystander"):
            try:
                await asyncio.to_thread(stop_all, [self.bystander])
            except subprocess.TimeoutExpired:
                self.bystander.process.kill()
        if hasattr(self, "server"):
            await asyncio.to_thread(self.server.stop)
        if self.small_disk:
            subprocess.run(["umount", "-l", self.library], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.server.errors if hasattr(self, "server") else []

    @property
    def healthy(self) -> bool:
        """The bystander is there and sees something, so that the next attempt can begin."""
        return self.bystander.process.poll() is None and any(row["new"] for row in self.bystander.rows[-2:])

    async def watch(self, attempt: Attempt) -> Outcome:
        """Count beside one attempt."""
        self.broken, self._beside, self._begun = [], None, None
        await self.guests_gone()
        before = self._calm or await self._counted(BEFORE if self.strict else 1)
        memory, workers = await asyncio.to_thread(self._memory), {one.pid for one in self.processes_of()}
        lines, began = len(self.server.errors), time.monotonic()
        try:
            answer = await asyncio.wait_for(attempt.run(self), LONGEST)
        except TimeoutError:
            answer = "no end"
            self.broke(f"no answer in {LONGEST:g} s")
        except (OSError, httpx.HTTPError, LookupError, AssertionError, ValueError) as error:
            answer = f"{type(error).__name__}: {error}"
            self.broke(f"the attempt stopped: {answer}")
        over = time.monotonic()
        if self.strict:
            await asyncio.sleep(attempt.after)
            await self._calmed(before)
        elif attempt.loss is not Loss.BYSTANDER:
            await self._goes_on("afterwards")
        beside, since = self._beside or before, self._begun or began
        during, after = self._rows(since, over), self._rows(over)[-LAST:]
        if attempt.loss is Loss.BYSTANDER:
            during = after = []
        # Where it was as before, those seconds are also the ones before the next attempt.
        self._calm = after if after and sum(after) / len(after) > 0.9 * sum(before) / len(before) else []
        memory_after = await self._settled(memory) if self.strict else memory
        now = {one.pid for one in self.processes_of()}
        said = self.server.errors[lines:]
        return Outcome(
            attempt.name, attempt.title, answer, _mean(before), _mean(beside), during, after,
            memory, memory_after,
            sum("Traceback" in line for line in said),
            sum(not line.startswith("INFO ") for line in said),
            time.monotonic() - began,
            0 if attempt.loss is not Loss.NOTHING else len(workers - now),
            self.broken,
        )  # fmt: skip

    async def count_beside(self) -> None:
        """Count the bystander anew, beside a guest who is there and does nothing yet: what one of a worker's sessions
        costs another is no harm that an attempt does.
        """
        if self.strict:
            await asyncio.sleep(1)
            self._beside = await self._counted(BEFORE)
            self.begins()

    def begins(self) -> None:
        """The attempt begins here: until now it made what it needs."""
        self._begun = time.monotonic()

    @asynccontextmanager
    async def http(self, name: str = "", address: str = "") -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client of somebody (nobody for ""), from a loopback address of its own where one is named."""
        transport = httpx.AsyncHTTPTransport(local_address=address or None, limits=httpx.Limits(max_connections=100))
        url = self.url.replace("localhost", "127.0.0.1")
        async with httpx.AsyncClient(
            base_url=url, headers=self.who(name) if name else {}, timeout=PATIENCE, transport=transport
        ) as client:
            yield client

    async def guests_gone(self) -> int:
        """Wait until the bystander's session is the only one; how many others are left.

        Who left without a word is missed after half a minute.
        """
        until, others = time.monotonic() + (GONE if self.strict else PATIENCE), 0
        while time.monotonic() < until:
            with suppress(httpx.HTTPError):
                others = len((await asyncio.to_thread(self.server.status))["sessions"]) - 1
                if others <= 0:
                    break
            await asyncio.sleep(0.2)
        return others

    async def _calmed(self, before: list[int]) -> None:
        """Wait until the bystander has as many pictures as before: guests leave, and what they had is given back."""
        until = time.monotonic() + CALM
        while time.monotonic() < until and _mean([row["new"] for row in self.bystander.rows[-LAST:]]) < min(
            _mean(before), ENOUGH
        ):
            await asyncio.sleep(0.2)

    async def _goes_on(self, when: str) -> None:
        """Wait for a second's worth of new pictures; if they do not come, a promise is broken."""
        have, until = len(self.bystander.rows), time.monotonic() + PATIENCE
        while sum(row["new"] for row in self.bystander.rows[have:]) < PICTURES:
            if time.monotonic() > until or self.bystander.process.poll() is not None:
                self.broke(f"the bystander got no {PICTURES} pictures {when}")
                return
            await asyncio.sleep(0.05)

    async def _counted(self, seconds: int) -> list[int]:
        have = len(self.bystander.rows)
        until = time.monotonic() + seconds + 3
        while len(self.bystander.rows) < have + seconds and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return [row["new"] for row in self.bystander.rows[have:]] or [0]

    def _rows(self, since: float, until: float = float("inf")) -> list[int]:
        """New pictures of each whole second of that time; 0 for each that the bystander said nothing in."""
        found = [row["new"] for row in self.bystander.rows if since + 0.5 < row["at"] <= until + 0.5]
        seconds = int(min(until, time.monotonic()) - since)
        return found + [0] * (seconds - 1 - len(found))

    def _memory(self) -> float:
        with suppress(psutil.Error):
            return round(self.server.sample()["memory_mb"], 1)
        return 0.0

    async def _settled(self, before: float) -> float:
        until = time.monotonic() + SETTLE
        memory = await asyncio.to_thread(self._memory)
        while memory > before * 1.05 and time.monotonic() < until:
            await asyncio.sleep(2)
            memory = min(memory, await asyncio.to_thread(self._memory))
        return memory


def _mean(pictures: list[int]) -> float:
    return round(sum(pictures) / max(len(pictures), 1), 1)


def _hosts(one: psutil.Process, all_of_them: list[psutil.Process]) -> bool:
    """A child of the fork server, which hosts sessions; the fork server and its tracker are the server's own."""
    with suppress(psutil.Error):
        return one.ppid() in {other.pid for other in all_of_them}
    return False
