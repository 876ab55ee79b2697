"""Growth of a server's memory and other resources over an hour or five hundred visits."""

import argparse
import json
import random
import subprocess
import sys
import time
from typing import Any

import numpy as np

from tests.soak.bench import Client, ServerProcess, stop_all, table
from tests.soak.cycler import VISITS_PER_SAMPLE

WARM_UP_CYCLES = 50  # while caches fill
MAX_GROWTH = 0.02
MAX_GROWTH_WITH_SESSIONS = 0.05  # running sessions hold frames in memory


def cycles(arguments: argparse.Namespace) -> dict[str, Any]:
    """Visit ``--count`` times; memory, descriptors, threads and tasks must not grow after the first 50 visits."""
    server = ServerProcess("--engine", arguments.engine, "--offers-per-minute", "6000")
    server.wait_ready()
    visits = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.cycler", server.url, str(arguments.count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    rows: list[dict[str, Any]] = []
    done = 0
    assert visits.stdin
    assert visits.stdout
    for text in visits.stdout:
        done = json.loads(text)["cycle"] + 1
        if done % VISITS_PER_SAMPLE == 0:
            server.wait_empty()
            rows.append({"cycles": done} | _resources(server))
            visits.stdin.write("\n")
            visits.stdin.flush()
    time.sleep(3)
    tracebacks = server.tracebacks()
    server.stop()
    failed = [] if done == arguments.count else [f"only {done} of {arguments.count} visits worked"]
    if tracebacks:
        failed.append(f"{tracebacks} unhandled errors in the log")
    settled = [row for row in rows if row["cycles"] >= WARM_UP_CYCLES] or rows
    growth = {name: _growth(settled, name) for name in ("memory_mb", "descriptors", "threads", "tasks")}
    failed += _failed_growth(growth, settled, MAX_GROWTH)
    shown = rows[:: max(1, len(rows) // 10)] + rows[-1:]
    return {"rows": rows, "growth": growth, "failed": failed, "text": f"{table(shown)}\ngrowth: {growth}"}


def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run ``--sessions`` sessions for ``--minutes`` and sometimes kill and replace a client. Draws a plot."""
    most = arguments.sessions + 2
    server = ServerProcess("--engine", arguments.engine, "--sessions", str(most))
    server.wait_ready()
    chance, clients = random.Random(3), []
    url = server.url + "/session"
    # Sessions reuse face trackers: create as many as will ever be needed before memory is measured.
    guests = [Client.start(url, "--seconds", "100000") for _ in range(most)]
    time.sleep(20)
    stop_all(guests)
    server.wait_empty()
    rows: list[dict[str, Any]] = []
    began = last = time.monotonic()
    killed = 0
    for _ in range(arguments.sessions):
        clients.append(Client.start(url, "--seconds", "1000000"))
    while time.monotonic() - began < 60 * arguments.minutes:
        time.sleep(10)
        for k, client in enumerate(clients):
            if client.process.poll() is not None:  # refused, while the killed client's session still exists
                clients[k] = Client.start(url, "--seconds", "1000000")
        if chance.random() < 0.05:
            victim = chance.randrange(len(clients))
            clients[victim].process.kill()
            killed += 1
            clients[victim] = Client.start(url, "--seconds", "1000000")
        now = time.monotonic()
        figures = [client.figures(last, now) for client in clients]
        rows.append(
            {"minutes": round((now - began) / 60, 2)}
            | _resources(server)
            | {"fps": min(one["fps"] for one in figures), "p95_ms": max(one["p95_ms"] for one in figures)}
        )
        last = now
    stop_all(clients)
    tracebacks, stopped = server.tracebacks(), server.stop()
    picture = _draw(rows)
    failed = [f"{tracebacks} unhandled errors in the log"] if tracebacks else []
    # A killed client's session ends after half a minute; that session's memory is no growth.
    settled = [row for row in rows[len(rows) // 6 :] if row["sessions"] == arguments.sessions] or rows
    growth = {name: _growth(settled, name) for name in ("memory_mb", "descriptors", "threads", "tasks")}
    failed += _failed_growth(growth, settled, MAX_GROWTH_WITH_SESSIONS)
    shown = rows[:: max(1, len(rows) // 12)]
    text = f"{table(shown)}\ngrowth: {growth}; {killed} clients killed; stopped in {stopped:.1f} s; {picture}"
    return {"rows": rows, "growth": growth, "killed": killed, "failed": failed, "text": text}


def _growth(rows: list[dict[str, Any]], name: str) -> float:
    """The relative rise of a straight line fitted through the values, from the first row to the last."""
    values = np.array([row[name] for row in rows], float)
    slope, start = np.polyfit(np.arange(len(values)), values, 1) if len(values) > 2 else (0.0, 1.0)
    return round(float(slope * (len(values) - 1) / start), 4)


def _failed_growth(growth: dict[str, float], rows: list[dict[str, Any]], allowed: float) -> list[str]:
    """What grew by more than ``allowed``; one more descriptor, thread or task is a pool that has filled up."""
    return [
        f"{name} grew by {share:.1%}"
        for name, share in growth.items()
        if share > allowed and share * rows[0][name] >= 2
    ]


def _resources(server: ServerProcess) -> dict[str, Any]:
    sample = server.sample()
    return {
        "memory_mb": round(sample["memory_mb"], 1),
        "descriptors": int(sample["descriptors"]),
        "threads": int(sample["threads"]),
        "tasks": int(server.metric("avatar_tasks")),
        "sessions": len(server.status()["sessions"]),
    }


def _draw(rows: list[dict[str, Any]]) -> str:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = ("memory_mb", "descriptors", "tasks", "fps", "p95_ms")
    figure, axes = pyplot.subplots(len(names), 1, sharex=True, figsize=(9, 9))
    for name, axis in zip(names, axes, strict=True):
        axis.plot([row["minutes"] for row in rows], [row[name] for row in rows])
        axis.set_ylabel(name)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("minutes")
    figure.savefig("soak.png", dpi=80, bbox_inches="tight")
    return "soak.png"
