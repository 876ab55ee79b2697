"""A server's frame rate and delay with more and more sessions, and over a bad network."""

import argparse
import time
from typing import Any

import numpy as np

from tests.soak.bench import Client, ServerProcess, stop_all, table

SETTLE_SECONDS = 15.0
"""Not counted after a client starts: for four of these seconds it occupies a processor."""


def load(arguments: argparse.Namespace) -> dict[str, Any]:
    """Add sessions one by one until the server refuses; each step is measured for ``--seconds``.

    With ``--light`` clients do not decode, which is most of their load; the frame rate is then the server's.
    """
    light = ["--light"] if arguments.light else []
    own = [] if arguments.processes is None else ["--processes", str(arguments.processes)]
    server = ServerProcess("--engine", arguments.engine, *own)
    server.wait_ready()
    clients: list[Client] = []
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    try:
        while True:
            client = Client.start(server.url + "/session", "--seconds", "100000", *light)
            if client.wait_answer() != 201:
                if client.status != 503:
                    failed.append(f"one session more got {client.status}, not 503")
                break
            clients.append(client)
            rows.append(_measure(server, clients, arguments.seconds))
        # The refused client must not have slowed the others.
        again = _measure(server, clients, arguments.seconds)
        if clients and again["fps"] < 0.9 * rows[-1]["fps"]:
            failed.append(f"{rows[-1]['fps']} pictures a second became {again['fps']} when one more was refused")
        rows.append(again | {"sessions": f"{len(clients)} and one refused"})
        capacity = server.status()["capacity"]
        if len(clients) != capacity:
            failed.append(f"{len(clients)} sessions were admitted, but the capacity is {capacity}")
    finally:
        stop_all(clients)
        server.stop()
    return {"rows": rows, "capacity": capacity, "failed": failed, "text": table(rows)}


def _measure(server: ServerProcess, clients: list[Client], seconds: float) -> dict[str, Any]:
    time.sleep(SETTLE_SECONDS)
    since, before = time.monotonic(), server.sample()
    time.sleep(seconds)
    after = server.sample()
    figures = [client.figures(since) for client in clients]
    sessions = server.status()["sessions"]
    qualities = sorted({str(row["quality"]) for row in sessions})
    if all(np.isnan(one["p50_ms"]) for one in figures):  # the clients do not decode
        figures = [one | {"fps": row["fps"]} for one, row in zip(figures, sessions, strict=True)]
    return {
        "sessions": len(clients),
        "fps": min(one["fps"] for one in figures),
        "p50_ms": max(one["p50_ms"] for one in figures),
        "p95_ms": max(one["p95_ms"] for one in figures),
        "processors": round((after["processor_s"] - before["processor_s"]) / (after["at"] - before["at"]), 2),
        "memory_mb": round(after["memory_mb"]),
        "qualities": "/".join(qualities),
    }


def line(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one session over a good network and one over a bad network."""
    server = ServerProcess("--engine", arguments.engine)
    server.wait_ready()
    rows: list[dict[str, Any]] = []
    bad = ("--loss", str(arguments.loss), "--delay", str(arguments.delay / 2), "--jitter", str(arguments.jitter))
    named = f"{arguments.loss:.0%} lost, {arguments.delay * 1e3:.0f} ms"
    for name, flags in (("good", ()), (named, bad)):
        client = Client.start(server.url + "/session", "--seconds", "100000", *flags)
        if client.wait_answer() != 201:
            raise SystemExit(f"the client got {client.status}")
        time.sleep(SETTLE_SECONDS)
        since = time.monotonic()
        time.sleep(arguments.seconds)
        rows.append({"line": name} | client.figures(since) | {"state": client.rows[-1]["state"]})
        stop_all([client])
        time.sleep(1)
    server.stop()
    failed = []
    if not rows[1]["p95_ms"] < 600:
        failed.append(f"p95 of {rows[1]['p95_ms']} ms on the bad line, 600 are allowed")
    return {"rows": rows, "failed": failed, "text": table(rows)}
