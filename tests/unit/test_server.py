"""A server without peers: capacity, metrics, logs, HTTPS, signals."""

import asyncio
import datetime
import json
import logging
import signal
import ssl
import sys
import urllib.request
from pathlib import Path
from typing import cast

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send

from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES
from avatar_stream.server.heap import limit_arenas, trim_heap
from avatar_stream.server.http.gate import Gate
from avatar_stream.server.logs import JsonLines, RateLimit, TextLines
from avatar_stream.server.metrics import Metrics
from avatar_stream.server.run import DrainingServer
from avatar_stream.server.session.capacity import Load, cores, measure
from avatar_stream.server.session.registry import SessionRegistry
from avatar_stream.settings import Settings
from tests.serving import RunningServer
from tests.waiting import TEST_TIMEOUT, until, within

ROOT = Path(__file__).parent.parent.parent


def test_capacity_is_limited_by_the_scarcer_resource() -> None:
    assert Load(0.027, 0.015, False).sessions(25, cores=2) == 2
    assert Load(0.027, 0.015, False).sessions(25, cores=16) == 16
    assert Load(0.2, 0.1, False).sessions(25, cores=1) == 1  # the quality ladder lowers the load
    assert Load(0.01, 0.004, True).sessions(25, cores=64) == 9  # the GPU is the limit, not the processors
    assert Load(0.01, 0.0005, True).sessions(25, cores=2) == 4
    assert cores() >= 0.5


def test_capacity_is_measured_with_a_sessions_work(library_portrait) -> None:  # type: ignore[no-untyped-def]
    load = measure(None, library_portrait, 25)
    assert 0.001 < load.processor < 1
    assert not load.shared_engine


@pytest.fixture
def library_portrait():  # type: ignore[no-untyped-def]
    from avatar_stream.identity.library import Library

    library = Library(size=256, uploads=1)
    return library.get(library.default)


async def test_requests_cancelled_by_a_stopping_server_log_no_error() -> None:
    """uvicorn logs every exception of the app with its traceback, and cancels requests only when it stops."""

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(TEST_TIMEOUT)

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        pass

    scope = {"type": "websocket", "path": "/control/key", "headers": [(b"host", b"localhost:8080")]}
    task = asyncio.create_task(Gate(waits, Settings(), Metrics())(scope, receive, send))
    await asyncio.sleep(0)
    task.cancel()
    await within(task)


def test_metrics_are_in_prometheus_format_without_names() -> None:
    metrics = Metrics()
    metrics.frame_received(2)
    metrics.picture_drawn(0.06)
    metrics.stage("network", 0.008)
    metrics.queue_waited("camera", 0.01)
    metrics.ended("publish", "left")
    metrics.refused(413)
    metrics.likeness_measured(0.9)
    metrics.set_engine("openvino bf16")
    metrics.register_gauges(
        {"live": lambda: 3}, {quality.name: lambda: 1 for quality in DRAWING_QUALITIES}, lambda: 4
    )
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    assert families["avatar_frames_dropped"].samples[0].value == 2
    (live,) = (s for s in families["avatar_sessions"].samples if s.labels["state"] == "live")
    assert live.value == 3
    labels = {name for family in families.values() for sample in family.samples for name in sample.labels}
    assert labels <= {"state", "reason", "stage", "queue", "role", "status", "quality", "engine", "le"} | {
        *("implementation", "major", "minor", "patchlevel", "version")
    }


def test_the_dashboard_uses_existing_metrics() -> None:
    import re

    board = json.loads((ROOT / "docs" / "grafana.json").read_text())
    known = Metrics().text().decode() + " ".join(
        f"{name}_bucket {name}_sum {name}_count"
        for name in ("avatar_stage_seconds", "avatar_motion_to_photon_seconds", "avatar_queue_age_seconds",
                     "avatar_identity_distance")
    )  # fmt: skip
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(asked) > 10
    for expression in asked:
        for name in re.findall(r"\b(?:avatar|process)_[a-z_]+", expression):
            assert name in known or name.removesuffix("_total") in known, name


def test_the_format_of_log_lines() -> None:
    record = logging.LogRecord("avatar_stream.x", logging.INFO, "f", 1, "hello %s", ("you",), None)
    record.session = "ab12"
    line = json.loads(JsonLines().format(record))
    assert line | {"time": ""} == {
        "time": "", "level": "info", "logger": "avatar_stream.x", "message": "hello you", "session": "ab12",
    }  # fmt: skip
    assert TextLines().format(record) == "INFO avatar_stream.x [ab12]: hello you"
    try:
        raise ValueError("no")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError: no" in json.loads(JsonLines().format(record))["exception"]


def test_log_lines_caused_by_packets_are_rate_limited() -> None:
    now = 0.0
    limit = RateLimit(lambda: now)

    def written(name: str, line: int, message: str) -> str:
        record = logging.LogRecord(name, logging.WARNING, "f.py", line, message, (), None)
        return record.getMessage() if limit.filter(record) else ""

    assert written("aiortc.rtcdtlstransport", 1, "bad") == "bad"
    assert [written("aiortc.rtcdtlstransport", 1, f"bad {number}") for number in range(500)] == [""] * 500
    assert written("asyncio", 1, "worse") == ""  # the same place
    assert written("asyncio", 2, "worse") == "worse"
    assert [written("avatar_stream.server.session.session", 1, "left") for _ in range(3)] == ["left"] * 3
    now = 1.0
    assert written("aiortc.rtcdtlstransport", 1, "bad") == "bad (501 more like this were left out)"
    assert written("asyncio", 2, "worse") == "worse"


def test_limiting_and_trimming_the_heap_does_not_raise() -> None:
    limit_arenas()
    trim_heap()


def test_https_with_a_certificate(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    flags = ("--engine", "warp", "--certificate", str(certificate), "--private-key", str(private))
    with RunningServer(*flags) as server:
        assert server.url.startswith("https://localhost:")
        trusted = ssl.create_default_context(cafile=str(certificate))
        # After "ready" no request gets a 503.
        with urllib.request.urlopen(server.url + "readyz", context=trusted, timeout=TEST_TIMEOUT) as response:
            assert response.status == 200
        starts, ready = (
            next(k for k, line in enumerate(server.stdout_lines) if word in line) for word in ("starts", "ready")
        )
        assert starts < ready


async def test_a_second_signal_is_raised_only_once() -> None:
    """uvicorn raises a received signal again; SIGINT raised twice gives a traceback."""
    gone = asyncio.Event()

    class Leaving:
        draining = False

        async def drain(self, seconds: float) -> None:
            self.draining = True
            await gone.wait()

    sessions = Leaving()
    server = DrainingServer(uvicorn.Config(app="none"), cast(SessionRegistry, sessions), 10)
    server._loop = asyncio.get_running_loop()
    server.handle_exit(signal.SIGINT, None)
    await until(lambda: sessions.draining, "the sessions drained")
    assert not server.should_exit
    server.handle_exit(signal.SIGINT, None)
    assert server.should_exit
    gone.set()
    assert server._draining
    await within(server._draining)
    assert server._captured_signals == [signal.SIGINT]

    # A second signal cancels running requests, without a traceback for each.
    channel = asyncio.create_task(asyncio.sleep(TEST_TIMEOUT))
    server.server_state.tasks.add(channel)
    server.handle_exit(signal.SIGINT, None)
    await until(channel.cancelled, "an open channel was cancelled")
    assert not server.force_exit
