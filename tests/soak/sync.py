"""The offset between sound and picture at a viewer, and its drift."""

import argparse
import time
from typing import Any, Final

import numpy as np

from tests.soak.bench import Client, ServerProcess, stop_all, table

SETTLE_SECONDS: Final = 15.0
"""Not counted at the start: the sender must report first and the server must learn its delay."""
COMPARED_SHARE: Final = 0.1  # of the duration: the first and last such parts are compared
MAX_COMPARED_SECONDS: Final = 300.0  # of each part
MAX_DRIFT_SECONDS: Final = 0.040


def sync(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a session with sound and a viewer for ``--minutes``, both over a network with ``--loss``, and compare
    clicks with their pictures at the viewer.
    """
    server = ServerProcess("--engine", arguments.engine)
    server.wait_ready()
    line = ("--loss", str(arguments.loss), "--delay", str(arguments.delay / 2), "--jitter", str(arguments.jitter))
    flags = ("--seconds", "1000000", "--clicks", *line)
    publisher = Client.start(f"{server.url}/session?session=clock", *flags)
    publisher.wait_answer()
    client = Client.start(f"{server.url}/whep/clock", "--role", "view", *flags)
    if (publisher.status, client.wait_answer()) != (201, 201):
        raise SystemExit(f"the clients got {publisher.status} and {client.status}")
    began, whole = time.monotonic(), 60 * arguments.minutes
    while time.monotonic() - began < whole and client.process.poll() is publisher.process.poll() is None:
        time.sleep(1)
    lived = time.monotonic() - began
    stop_all([client, publisher])
    server.stop()
    part = min(MAX_COMPARED_SECONDS, COMPARED_SHARE * whole)
    first = _offsets(client, began + SETTLE_SECONDS, began + SETTLE_SECONDS + part)
    last = _offsets(client, began + lived - part, began + lived)
    rows = [
        {"minutes": round(start / 60, 1)} | _offsets(client, began + start, began + start + part)
        for start in np.arange(SETTLE_SECONDS, max(lived - part, SETTLE_SECONDS + 1), max(part, lived / 12))
    ]
    failed = []
    if lived < whole:
        failed.append(f"a client ended after {lived / 60:.1f} minutes")
    drift = round(last["median_ms"] - first["median_ms"], 1)
    if not abs(drift) <= MAX_DRIFT_SECONDS * 1e3:
        failed.append(f"sound and picture drifted by {drift} ms")
    text = f"{table(rows)}\nfrom the first to the last: {drift:+} ms"
    return {"first": first, "last": last, "drift_ms": drift, "rows": rows, "failed": failed, "text": text}


def _offsets(client: Client, since: float, until: float) -> dict[str, float]:
    """Percentiles of the ms from a picture to its click, by the sender's clock and (``coming``) by arrival."""
    rows = [row for row in client.rows if since <= row["at"] <= until]
    by_stamps, coming = ([one for row in rows for one in row[name]] for name in ("sync", "coming"))
    if not by_stamps:
        return {"clicks": 0} | dict.fromkeys(("median_ms", "p5_ms", "p95_ms", "coming_ms"), float("nan"))
    p5, median, p95 = (round(float(one) * 1e3, 1) for one in np.percentile(by_stamps, [5, 50, 95]))
    came = round(float(np.median(coming)) * 1e3, 1)
    return {"clicks": len(by_stamps), "median_ms": median, "p5_ms": p5, "p95_ms": p95, "coming_ms": came}
