"""Sessions in session processes: one process each, shared processes, and processes that fail."""

import asyncio
import json
import os
import re
import signal
import urllib.request
from typing import Any

import numpy as np
import psutil
import pytest

from avatar_stream.server.ipc import pool
from tests.serving import RunningServer
from tests.waiting import TEST_TIMEOUT, http, until, wait_until, within
from tests.webrtc.peers import IN_PROCESSES, Peer, channel, no_sessions, only, running, set_timer

pytestmark = pytest.mark.webrtc


def processes_of(server: Any) -> list[Any]:
    """The server's running session processes."""
    return [one._process for one in server.host._processes if one._process is not None and not one.gone]


async def test_each_session_has_a_process_and_the_server_counts_both() -> None:
    async with running(**IN_PROCESSES) as (url, server):
        one, two = Peer(url), Peer(url)
        await one.connect()
        await two.connect()
        pictures, _ = await one.avatars(25)
        await two.avatars(5)
        assert np.abs(pictures[-1].astype(int) - pictures[0]).mean() > 0.2
        pids = {process.pid for process in processes_of(server)}
        assert len(pids) == 2
        assert os.getpid() not in pids
        rows: list[dict[str, Any]] = [{}]
        async with asyncio.timeout(TEST_TIMEOUT), http(url) as client:
            # Processes report four times a second.
            while not all(row.get("fps") and row["face"] == "found" for row in rows):
                text = (await client.get("/metrics")).text
                rows = (await client.get("/status", headers={"Accept": "application/json"})).json()["sessions"]
        assert float(re.findall(r"^avatar_frames_drawn_total (\S+)", text, re.M)[0]) > 20
        assert 'avatar_stage_seconds_count{stage="warp"}' in text
        # Memory of all processes, not of this one alone.
        memory = float(re.findall(r"^process_resident_memory_bytes (\S+)", text, re.M)[0])
        assert memory > psutil.Process().memory_info().rss + 2e8
        assert 'avatar_sessions{state="live"} 2.0' in text
        assert len(rows) == 2
        await server.sessions.close()
        await no_sessions(server)
        # The processes are kept for later sessions.
        assert {process.pid for process in processes_of(server)} == pids
        for peer in (one, two):
            await peer.close()


async def test_a_killed_process_ends_only_its_own_sessions() -> None:
    async with running(**IN_PROCESSES) as (url, server):
        one, other, viewer = Peer(url), Peer(url), Peer(url, "view")
        await one.connect(session="one")
        await other.connect(session="other")
        await viewer.connect(path="/whep/one")
        await asyncio.gather(one.pictures(3), other.pictures(3), viewer.pictures(3))
        first: Any = server.sessions.by_id["one"]
        os.kill(first._process._process.pid, signal.SIGKILL)
        await within(first.closed.wait())
        assert first.publisher.reason == "failed"
        assert only(server).id == "other"
        await other.pictures(10)
        again = Peer(url)
        assert (await again.connect(session="one")).status_code == 201
        await again.pictures(3)
        await server.sessions.close()
        for peer in (one, other, viewer, again):
            await peer.close()


async def test_more_sessions_than_processes_share_a_process() -> None:
    async with running(**IN_PROCESSES | {"processes": 1}) as (url, server):
        one, two = Peer(url), Peer(url)
        await one.connect(session="one")
        await two.connect(session="two")
        await asyncio.gather(one.avatars(2), two.avatars(2))
        assert len(processes_of(server)) == 1
        async with channel(url, "/motion/two") as socket:
            frames = [json.loads(await within(socket.recv())) for _ in range(10)]
        assert "jawOpen" in frames[-1]["blendShapes"]
        assert frames[-1]["time"] > frames[0]["time"]
        await server.sessions.by_id["one"].end("left")
        await two.pictures(5)
        assert only(server).id == "two"
        await server.sessions.close()
        for peer in (one, two):
            await peer.close()


async def test_a_hanging_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(**IN_PROCESSES | {"processes": 1}) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(3)
        session, (process,) = only(server), processes_of(server)
        os.kill(process.pid, signal.SIGSTOP)
        monkeypatch.setattr(pool, "HANG_TIMEOUT", 2.0)
        monkeypatch.setattr(pool, "STARTUP_TIMEOUT", 2.0)  # it may not have answered its first ping yet
        set_timer(server, watchdog=0.5)
        await within(session.closed.wait())
        await until(lambda: not process.is_alive(), "the process ended")
        monkeypatch.undo()
        set_timer(server, watchdog=TEST_TIMEOUT)
        again = Peer(url)
        assert (await again.connect()).status_code == 201
        await again.pictures(3)
        await server.sessions.close()
        for one in (peer, again):
            await one.close()


async def test_a_process_whose_pipe_fails_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """If a pipe's thread fails, no request on it would ever be answered."""

    class Failing:
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def send_bytes(self, data: bytes) -> None:
            raise RecursionError("a fault of the writing thread")

    async with running(**IN_PROCESSES | {"processes": 1}) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(3)
        session, (process,) = only(server), processes_of(server)
        session._process.pipe._connection = Failing(session._process.pipe._connection)
        async with asyncio.timeout(15):
            await session.closed.wait()
        again = Peer(url)
        assert (await again.connect()).status_code == 201
        await again.pictures(3)
        await asyncio.to_thread(process.join, 20)
        assert not process.is_alive()
        assert any("a pipe between processes failed" in record.message for record in caplog.records)
        await server.sessions.close()
        for one in (peer, again):
            await one.close()


async def test_a_process_that_reports_but_does_not_answer_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "HANG_TIMEOUT", 2.0)
    async with running(**IN_PROCESSES | {"processes": 1, "watchdog": 0.5}) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(3)
        session, (process,) = only(server), processes_of(server)
        await until(lambda: session._process._has_answered, "the process has answered once")
        heard, asked = session._process.last_report, asyncio.Event()

        async def unanswered() -> None:
            asked.set()
            await asyncio.Event().wait()

        session._process.pipe.ping = unanswered
        await within(session.closed.wait())
        assert asked.is_set()
        assert session._process.last_report > heard  # its reports went on
        await asyncio.to_thread(process.join, 5)
        assert not process.is_alive()
        again = Peer(url)
        assert (await again.connect()).status_code == 201
        await again.pictures(3)
        await server.sessions.close()
        for one in (peer, again):
            await one.close()


async def test_a_process_that_cannot_start_gives_503(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(**IN_PROCESSES) as (url, server):
        await server.warm.wait()

        class Refusing:
            def Pipe(self) -> Any:  # noqa: N802
                raise OSError("no more files")

        monkeypatch.setattr(pool, "_CONTEXT", Refusing())
        peer, kept = Peer(url), Peer(url)
        await kept.connect()  # in the process that the server started at its start
        response = await peer.connect()
        assert response.status_code == 503
        assert "try again" in response.json()["error"]
        await kept.pictures(3)
        await server.sessions.close()
        await no_sessions(server)
        for one in (peer, kept):
            await one.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_server(how: signal.Signals) -> None:
    with RunningServer("--engine", "warp", "--processes", "1") as server:
        with urllib.request.urlopen(server.url + "healthz", timeout=TEST_TIMEOUT) as response:
            assert response.status == 200
        process = psutil.Process(server.process.pid)
        wait_until(lambda: process.children(recursive=True), "a session process was started")
        others = process.children(recursive=True)
        server.process.send_signal(how)
        server.process.wait(TEST_TIMEOUT)
        gone, left = psutil.wait_procs(others, TEST_TIMEOUT)
    assert gone
    assert not left
