"""The server process under test, its client processes, and measurements of both."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import psutil

from avatar_stream.server.run import TOKEN_VARIABLE
from tests.waiting import TEST_TIMEOUT


class ServerProcess:
    """``avatar-stream serve`` on a free port, and measurements of its resources."""

    def __init__(self, *flags: str, token: str = "") -> None:
        """``token`` is an admin's token; it is needed if ``flags`` name a tokens file."""
        self.has_session_limit = "--sessions" in flags
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        command = [sys.executable, "-m", "avatar_stream.cli", "serve", "--port", "0", "--frame-marks", *flags]
        environment = {k: v for k, v in os.environ.items() if k != TOKEN_VARIABLE}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.log_lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        assert self.process.stdout
        found = re.search(r"http://localhost:(\d+)", self.process.stdout.readline())
        if not found:
            raise SystemExit(f"the server did not start: {''.join(self.log_lines)}")
        self.url = f"http://localhost:{found[1]}"
        self._watched = psutil.Process(self.process.pid)

    def wait_ready(self) -> None:
        """Wait until the server is ready, and has measured the machine unless it was given a number of sessions."""
        until = time.monotonic() + TEST_TIMEOUT
        while time.monotonic() < until:
            status = self.status()
            if httpx.get(self.url + "/readyz", timeout=TEST_TIMEOUT).status_code == 200 and (
                status["measured"] or self.has_session_limit
            ):
                return
            time.sleep(0.2)
        raise SystemExit("the server did not get ready")

    def status(self) -> dict[str, Any]:
        """The JSON of ``/status``."""
        headers = {"Accept": "application/json"} | self._headers
        status: dict[str, Any] = httpx.get(self.url + "/status", headers=headers, timeout=TEST_TIMEOUT).json()
        return status

    def wait_empty(self) -> None:
        """Wait until no session is left and their resources are released."""
        until = time.monotonic() + 40
        while self.status()["sessions"] and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(0.8)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = httpx.get(self.url + "/metrics", headers=self._headers).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}(\{{| )", line))

    def sample(self) -> dict[str, float]:
        """Memory in MB, file descriptors, threads and processor seconds, summed over all its processes."""
        found = dict.fromkeys(("memory_mb", "descriptors", "threads", "processor_s"), 0.0) | {"at": time.monotonic()}
        for one in (self._watched, *self._watched.children(recursive=True)):
            with one.oneshot():
                times = one.cpu_times()
                # PSS counts memory that processes share once; not every system reports it.
                memory = one.memory_full_info()
                found["memory_mb"] += getattr(memory, "pss", memory.rss) / 1e6
                found["descriptors"] += one.num_fds()
                found["threads"] += one.num_threads()
                found["processor_s"] += times.user + times.system
        return found

    def tracebacks(self) -> int:
        """Unhandled errors in its log."""
        return sum("Traceback" in line for line in self.log_lines)

    def stop(self) -> float:
        """Stop it with SIGTERM; returns the seconds that took."""
        began = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return time.monotonic() - began

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log_lines.append(line)


@dataclass
class Client:
    """A client process and the lines it has printed."""

    process: "subprocess.Popen[str]"
    status: int = 0
    first_row: dict[str, Any] = field(default_factory=dict)  # see tests/soak/client.py
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def start(cls, url: str, *flags: str) -> "Client":
        """Start one; :meth:`wait_answer` waits for the server's answer."""
        command = [sys.executable, "-m", "tests.soak.client", url, *flags]
        made = cls(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        threading.Thread(target=made._read, daemon=True).start()
        return made

    def wait_answer(self, seconds: float = TEST_TIMEOUT) -> int:
        """Wait for the HTTP status of its offer and return it; 0 if none came."""
        until = time.monotonic() + seconds
        while not self.status and time.monotonic() < until and self.process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.05)
        return self.status

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            row = json.loads(line)
            if "status" in row:
                self.first_row, self.status = row, row["status"]
            else:
                self.rows.append(row | {"at": time.monotonic()})

    def figures(self, since: float = 0.0, until: float = float("inf")) -> dict[str, float]:
        """New pictures a second and delays in ms, over the rows between ``since`` and ``until``."""
        rows = [row for row in self.rows if since <= row["at"] <= until]
        delays = [delay for row in rows for delay in row["delays"]]
        p50, p95 = (np.percentile(delays, [50, 95]) * 1e3).round() if delays else (float("nan"),) * 2
        return {
            "fps": round(sum(row["new"] for row in rows) / max(len(rows), 1), 1),
            "p50_ms": float(p50),
            "p95_ms": float(p95),
        }


def stop_all(clients: Sequence[Client]) -> None:
    """Stop the clients that still run."""
    for client in clients:
        if client.process.poll() is None:
            client.process.terminate()
    for client in clients:
        client.process.wait(20)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A text table of rows that have the same keys."""
    names = list(rows[0])
    lines = [names] + [[str(row[name]) for name in names] for row in rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(names))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
