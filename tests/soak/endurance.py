"""What an hour, or five hundred visits, leaves behind in a server."""

import argparse
import json
import random
import subprocess
import sys
import time
from typing import Any

import numpy as np

from tests.soak.bench import Client, ServerProcess, stop_all, table
from tests.soak.cycler import LOOK

FIRST = 50  # cycles in which caches may fill
GROWTH = 0.02
GROWTH_LIVE = 0.05  # while sessions run, whose frames are in memory


def cycles(arguments: argparse.Namespace) -> dict[str, Any]:
    """Visit ``--count`` times; memory, descriptors, threads and tasks must stay as they were after the first 50."""
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
        if done % LOOK == 0:
            server.wait_empty()
            rows.append({"cycles": done} | _taken(server))
            visits.stdin.write("\n")
            visits.stdin.flush()
    time.sleep(3)
    tracebacks = server.tracebacks()
    server.stop()
    failed = [] if done == arguments.count else [f"only {done} of {arguments.count} visits worked"]
    if tracebacks:
        failed.append(f"{tracebacks} unhandled errors in the log")
    settled = [row for row in rows if row["cycles"] >= FIRST] or rows
    growth = {name: _growth(settled, name) for name in ("memory_mb", "descriptors", "threads", "tasks")}
    failed += _grown(growth, settled, GROWTH)
    shown = rows[:: max(1, len(rows) // 10)] + rows[-1:]
    return {"rows": rows, "growth": growth, "failed": failed, "text": f"{table(shown)}\ngrowth: {growth}"}


def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """``--sessions`` sessions for ``--minutes``; now and then a client is killed and one comes. Draws a picture."""
    most = arguments.sessions + 2
    server = ServerProcess("--engine", arguments.engine, "--sessions", str(most))
    server.wait_ready()
    chance, clients = random.Random(3), []
    url = server.url + "/session"
    # Face trackers are handed from session to session: first as many as there will ever be at a time.
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
            if client.process.poll() is not None:  # refused, while the one that was killed is still being missed
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
            | _taken(server)
            | {"fps": min(one["fps"] for one in figures), "p95_ms": max(one["p95_ms"] for one in figures)}
        )
        last = now
    stop_all(clients)
    tracebacks, stopped = server.tracebacks(), server.stop()
    picture = _draw(rows)
    failed = [f"{tracebacks} unhandled errors in the log"] if tracebacks else []
    # A client that was killed is missed for half a minute: two sessions' worth is no growth.
    settled = [row for row in rows[len(rows) // 6 :] if row["sessions"] == arguments.sessions] or rows
    growth = {name: _growth(settled, name) for name in ("memory_mb", "descriptors", "threads", "tasks")}
    failed += _grown(growth, settled, GROWTH_LIVE)
    shown = rows[:: max(1, len(rows) // 12)]
    text = f"{table(shown)}\ngrowth: {growth}; {killed} clients killed; stopped in {stopped:.1f} s; {picture}"
    return {"rows": rows, "growth": growth, "killed": killed, "failed": failed, "text": text}


def _growth(rows: list[dict[str, Any]], name: str) -> float:
    """By which share a straight line through the values rises from the first row to the last."""
    values = np.array([row[name] for row in rows], float)
    slope, start = np.polyfit(np.arange(len(values)), values, 1) if len(values) > 2 else (0.0, 1.0)
    return round(float(slope * (len(values) - 1) / start), 4)


def _grown(growth: dict[str, float], rows: list[dict[str, Any]], allowed: float) -> list[str]:
    """What grew by more than that share; one descriptor, thread or task more is a pool that has filled."""
    return [
        f"{name} grew by {share:.1%}"
        for name, share in growth.items()
        if share > allowed and share * rows[0][name] >= 2
    ]


def _taken(server: ServerProcess) -> dict[str, Any]:
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
