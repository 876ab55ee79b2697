"""``avatar-stream serve`` in its own process, which ends with the test even if that fails."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Self

import psutil

from tests.waiting import TEST_TIMEOUT, server_flags


class RunningServer:
    """A server on a free port, as a context manager; raises AssertionError with its output if it does not start."""

    def __init__(
        self,
        *flags: str,
        marks: bool = False,
        library: str = "none",
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """``marks`` and ``library`` set --frame-marks and --library; an empty ``library`` omits that flag."""
        command = [sys.executable, "-m", "avatar_stream.cli", "serve", *flags, *server_flags(flags)]
        command += [] if "--port" in flags else ["--port", "0"]
        command += ["--library", library] if library and "--library" not in flags else []
        command += ["--frame-marks"] if marks else []
        began = time.monotonic()
        # In its own process group, so that the whole group can be killed.
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | (environment or {}),
            start_new_session=True,
        )
        self.stdout_lines: list[str] = []
        self.stderr_lines: list[str] = []
        self.ready_after = 0.0
        self.url = ""
        """Ends with a slash."""
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=given, daemon=True)
            for given in ((self.process.stdout, self.stdout_lines), (self.process.stderr, self.stderr_lines))
        ]
        for reader in self._readers:
            reader.start()
        try:
            self._wait_for_address()
        except BaseException:
            self.stop()
            raise
        self.ready_after = time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Its HTTP port."""
        return int(self.url.rsplit(":", 1)[1].strip("/"))

    @property
    def output(self) -> str:
        """All its output so far."""
        return "".join(self.stdout_lines + self.stderr_lines)

    def memory_mb(self) -> float:
        """Memory of the server and its session processes; shared memory counts once."""
        server = psutil.Process(self.process.pid)
        return sum(one.memory_full_info().pss for one in (server, *server.children(recursive=True))) / 1e6

    def stop(self) -> None:
        """Send SIGINT twice, which does not wait for sessions, then kill what is left."""
        try:
            for wait in (1.0, TEST_TIMEOUT):
                if self.process.poll() is None:
                    self.process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(wait)
                    break
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for reader in self._readers:
            reader.join(TEST_TIMEOUT)

    def _wait_for_address(self) -> None:
        end = time.monotonic() + TEST_TIMEOUT
        while not self.url:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = ""
            found = re.search(r"ready on (https?://\S+:\d+)", line)
            if found:
                self.url = found[1] + "/"
            elif not line:
                raise AssertionError(f"the server did not start: {self.output}")

    def _read(self, stream: IO[Any], into: list[str]) -> None:
        for line in stream:
            into.append(line)
            if into is self.stdout_lines:
                self._lines.put(line)
        self._lines.put("")  # end of output
