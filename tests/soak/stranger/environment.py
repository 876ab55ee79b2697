"""The server and the bystander beside which attempts run, and their measurements."""

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
from tests.soak.stranger.allowed_loss import AllowedLoss
from tests.soak.stranger.registry import Attempt
from tests.waiting import TEST_TIMEOUT, server_flags

BASELINE_SECONDS: Final = 3  # the bystander's pictures are counted for so long before an attempt
ATTEMPT_TIMEOUT: Final = 240.0  # seconds
GUESTS_GONE_TIMEOUT: Final = 45.0  # seconds; guests' sessions end before the next attempt
MIN_NEW_PICTURES: Final = 25  # a session that gets so many new pictures still works
MAX_SESSIONS: Final = 6  # the server's --sessions
WARM_UP_ROUNDS: Final = 2
"""Rounds of ``MAX_SESSIONS`` sessions before memory is measured: MediaPipe's graphs are reused, but never freed."""
SECONDS_COUNTED_AFTER: Final = 5  # pictures are counted for so long after an attempt
RECOVERY_TIMEOUT: Final = 10.0  # seconds; counting after an attempt starts by then
RECOVERED_FPS: Final = 24.5  # pictures a second
MEMORY_TIMEOUT: Final = 12.0  # seconds; the server releases memory by then
SMALL_DISK_BYTES: Final = 4 << 20
SCOPES_BY_NAME: Final = {
    "bystander": "publish,view",
    "mallory": "publish,view",
    "publisher": "publish",
    "watcher": "view",
    "boss": "admin,publish,view",
}
"""Scopes of the server's tokens, by name. Mallory makes the attempts that need a token."""


@dataclass
class Outcome:
    """Measurements of one attempt. ``before`` to ``after`` are the bystander's new pictures a second."""

    name: str
    title: str
    answer: str
    before: float
    beside: float  # beside the attempt's guest while it does nothing; equals ``before`` without a guest
    during: list[int]
    after: list[int]
    memory_before: float
    memory_after: float
    tracebacks: int
    log_lines: int
    seconds: float
    workers_lost: int
    broken: list[str] = field(default_factory=list)
    repeated: bool = False


class Environment:
    """A server with tokens and a library, and a bystander's session on it. Used from one event loop.

    ``launcher`` starts the server and the bystander, with its own priority.
    ``seconds`` is the duration of attempts that repeat something. With ``strict``, for the soak, the bystander's
    frame rate is measured. Without, for tests on machines with other load, it must only keep getting pictures.
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
        self.failures: list[str] = []
        self._undisturbed: list[int] = []
        self._beside_guest: list[int] | None = None
        self._attempt_began: float | None = None
        self.server: ServerProcess
        self.bystander: Client
        self.clip = Path(tempfile.gettempdir()) / f"strangers-clip-{os.getuid()}.pickle"

    @property
    def url(self) -> str:
        """The server's URL."""
        return self.server.url

    @property
    def port(self) -> tuple[str, int]:
        """The address and UDP port at which the server receives the bystander's media."""
        host, port = next((host, port) for host, port in self.bystander.first_row["ports"] if host)
        return host, port

    def authorization_of(self, name: str) -> dict[str, str]:
        """The Authorization header of a token, by name."""
        return authorization(self.tokens[name])

    def add_failure(self, sentence: str) -> None:
        """Add a sentence to the failures of the running attempt, once."""
        if sentence not in self.failures:
            self.failures.append(sentence)

    def session_processes(self) -> list[psutil.Process]:
        """The server's session processes."""
        found = psutil.Process(self.server.process.pid).children(recursive=True)
        return [one for one in found if _is_session_process(one, found)]

    def bystander_process(self) -> psutil.Process:
        """The session process that listens on the bystander's port; raises LookupError if there is none."""
        for one in self.session_processes():
            if any(link.laddr.port == self.port[1] for link in one.net_connections("udp")):
                return one
        raise LookupError("no session process listens on the bystander's port")

    async def start(self) -> None:
        """Start the server, run each kind of session once, and start the bystander."""
        await asyncio.get_running_loop().run_in_executor(self._launcher, self._start)
        await self._start_bystander()

    def _start(self) -> None:
        lines = []
        for name, scopes in SCOPES_BY_NAME.items():
            self.tokens[name], line = make_token(name, scopes.split(","))
            lines.append(line)
        (self.folder / "tokens").write_text("\n".join(lines) + "\n")
        if self.small_disk:
            self.library.mkdir()
            size = f"size={SMALL_DISK_BYTES}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.library], check=True)
        own = [] if self.processes is None else ["--processes", str(self.processes)]
        self.server = ServerProcess(
            *("--engine", self.engine, "--tokens", str(self.folder / "tokens"), "--library", str(self.library)),
            *(
                "--sessions",
                str(MAX_SESSIONS),
                "--sessions-per-address",
                str(MAX_SESSIONS),
                "--uploads-per-minute",
                "3000",
                *own,
            ),
            *(("--header-timeout", "2", "--body-timeout", "2") if self.strict else server_flags()),
            token=self.tokens["boss"],
        )
        self.server.wait_ready()

    async def _start_bystander(self) -> None:
        from tests.soak.stranger.guest import Guest

        for _ in range(WARM_UP_ROUNDS if self.strict else 1):
            async with AsyncExitStack() as stack:
                roles = ("both", "publish") * (MAX_SESSIONS // 2 if self.strict else 1)
                guests = [await stack.enter_async_context(Guest(self, role).connected()) for role in roles]
                await guests[0].wait_for_pictures(10)
        if self.strict:
            for _ in range(2):
                await asyncio.gather(self._enrol_and_remove("One"), self._enrol_and_remove("Two"))
        await asyncio.to_thread(self.server.wait_empty)
        url, token = f"{self.url}/session?session=bystander", f"--token={self.tokens['bystander']}"
        self.bystander = await asyncio.get_running_loop().run_in_executor(
            self._launcher, Client.start, url, "--seconds", "100000", token, "--clip", str(self.clip)
        )
        status = await asyncio.to_thread(self.bystander.wait_answer)
        if status != 201:
            raise SystemExit(f"the server refused the bystander: {status}")
        await self._wait_for_pictures("before any attempt")
        until = time.monotonic() + 40
        while self.strict and time.monotonic() < until and (await self._count_pictures(2))[-1] < 20:
            pass

    async def _enrol_and_remove(self, name: str) -> None:
        """Enrol once before memory is measured: the first enrolment loads networks that stay in memory."""
        async with self.http("mallory") as client:
            upload = (await client.post("/identities", content=(SAMPLES / "noor.jpg").read_bytes())).json()["id"]
            body = {"pictures": [upload], "name": name, "consent": "A sample portrait that is shipped for this"}
            key = (await client.post("/identities", json=body)).json()["id"]
            for one in (key, upload):
                await client.delete(f"/identities/{one}")

    async def stop(self) -> list[str]:
        """Stop the bystander and the server and remove the folder; returns the server's log lines."""
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
        return self.server.log_lines if hasattr(self, "server") else []

    @property
    def healthy(self) -> bool:
        """Whether the bystander runs and gets pictures, so that the next attempt can begin."""
        return self.bystander.process.poll() is None and any(row["new"] for row in self.bystander.rows[-2:])

    async def run_attempt(self, attempt: Attempt) -> Outcome:
        """Run one attempt and measure the bystander and the server before, during and after it."""
        self.failures, self._beside_guest, self._attempt_began = [], None, None
        await self.wait_until_guests_gone()
        before = self._undisturbed or await self._count_pictures(BASELINE_SECONDS if self.strict else 1)
        memory, processes = await asyncio.to_thread(self._memory), {one.pid for one in self.session_processes()}
        lines, began = len(self.server.log_lines), time.monotonic()
        try:
            answer = await asyncio.wait_for(attempt.run(self), ATTEMPT_TIMEOUT)
        except TimeoutError:
            answer = "timeout"
            self.add_failure(f"no answer in {ATTEMPT_TIMEOUT:g} s")
        except (OSError, httpx.HTTPError, LookupError, AssertionError, ValueError) as error:
            answer = f"{type(error).__name__}: {error}"
            self.add_failure(f"the attempt stopped: {answer}")
        over = time.monotonic()
        if self.strict:
            await asyncio.sleep(attempt.after)
            await self._wait_until_recovered(before)
        elif attempt.allowed_loss is not AllowedLoss.BYSTANDER:
            await self._wait_for_pictures("afterwards")
        beside, since = self._beside_guest or before, self._attempt_began or began
        during, after = (
            self._pictures_per_second(since, over),
            self._pictures_per_second(over)[-SECONDS_COUNTED_AFTER:],
        )
        if attempt.allowed_loss is AllowedLoss.BYSTANDER:
            during = after = []
        # If the frame rate is as before, these seconds also serve as the baseline of the next attempt.
        self._undisturbed = after if after and sum(after) / len(after) > 0.9 * sum(before) / len(before) else []
        memory_after = await self._settled_memory(memory) if self.strict else memory
        now = {one.pid for one in self.session_processes()}
        log = self.server.log_lines[lines:]
        return Outcome(
            attempt.name, attempt.title, answer, _mean(before), _mean(beside), during, after,
            memory, memory_after,
            sum("Traceback" in line for line in log),
            sum(not line.startswith("INFO ") for line in log),
            time.monotonic() - began,
            0 if attempt.allowed_loss is not AllowedLoss.NOTHING else len(processes - now),
            self.failures,
        )  # fmt: skip

    async def count_beside_idle_guest(self) -> None:
        """Measure the baseline again, beside a guest that does nothing yet: two sessions in one process slow each
        other, and that is no failure.
        """
        if self.strict:
            await asyncio.sleep(1)
            self._beside_guest = await self._count_pictures(BASELINE_SECONDS)
            self.mark_beginning()

    def mark_beginning(self) -> None:
        """Begin measuring the attempt now, after its preparation."""
        self._attempt_began = time.monotonic()

    @asynccontextmanager
    async def http(self, name: str = "", address: str = "") -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client with the token of ``name`` (none for ""), from the loopback address ``address`` if given."""
        transport = httpx.AsyncHTTPTransport(local_address=address or None, limits=httpx.Limits(max_connections=100))
        url = self.url.replace("localhost", "127.0.0.1")
        async with httpx.AsyncClient(
            base_url=url,
            headers=self.authorization_of(name) if name else {},
            timeout=TEST_TIMEOUT,
            transport=transport,
        ) as client:
            yield client

    async def wait_until_guests_gone(self) -> int:
        """Wait until the bystander's session is the only one; returns how many others are left.

        The server notices after half a minute that a peer vanished.
        """
        until, others = time.monotonic() + (GUESTS_GONE_TIMEOUT if self.strict else TEST_TIMEOUT), 0
        while time.monotonic() < until:
            with suppress(httpx.HTTPError):
                others = len((await asyncio.to_thread(self.server.status))["sessions"]) - 1
                if others <= 0:
                    break
            await asyncio.sleep(0.2)
        return others

    async def _wait_until_recovered(self, before: list[int]) -> None:
        """Wait until the bystander's frame rate is as before: guests' sessions end and release their resources."""
        until = time.monotonic() + RECOVERY_TIMEOUT
        while time.monotonic() < until and _mean(
            [row["new"] for row in self.bystander.rows[-SECONDS_COUNTED_AFTER:]]
        ) < min(_mean(before), RECOVERED_FPS):
            await asyncio.sleep(0.2)

    async def _wait_for_pictures(self, when: str) -> None:
        """Wait for a second's worth of new pictures; add a failure if they do not come."""
        have, until = len(self.bystander.rows), time.monotonic() + TEST_TIMEOUT
        while sum(row["new"] for row in self.bystander.rows[have:]) < MIN_NEW_PICTURES:
            if time.monotonic() > until or self.bystander.process.poll() is not None:
                self.add_failure(f"the bystander got no {MIN_NEW_PICTURES} pictures {when}")
                return
            await asyncio.sleep(0.05)

    async def _count_pictures(self, seconds: int) -> list[int]:
        have = len(self.bystander.rows)
        until = time.monotonic() + seconds + 3
        while len(self.bystander.rows) < have + seconds and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return [row["new"] for row in self.bystander.rows[have:]] or [0]

    def _pictures_per_second(self, since: float, until: float = float("inf")) -> list[int]:
        """New pictures in each whole second of that time; 0 for seconds without a line from the bystander."""
        found = [row["new"] for row in self.bystander.rows if since + 0.5 < row["at"] <= until + 0.5]
        seconds = int(min(until, time.monotonic()) - since)
        return found + [0] * (seconds - 1 - len(found))

    def _memory(self) -> float:
        with suppress(psutil.Error):
            return round(self.server.sample()["memory_mb"], 1)
        return 0.0

    async def _settled_memory(self, before: float) -> float:
        until = time.monotonic() + MEMORY_TIMEOUT
        memory = await asyncio.to_thread(self._memory)
        while memory > before * 1.05 and time.monotonic() < until:
            await asyncio.sleep(2)
            memory = min(memory, await asyncio.to_thread(self._memory))
        return memory


def _mean(pictures: list[int]) -> float:
    return round(sum(pictures) / max(len(pictures), 1), 1)


def _is_session_process(one: psutil.Process, all_of_them: list[psutil.Process]) -> bool:
    """Session processes are children of the fork server, which is, like the resource tracker, the server's child."""
    with suppress(psutil.Error):
        return one.ppid() in {other.pid for other in all_of_them}
    return False
