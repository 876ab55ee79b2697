"""Whatever strangers and other people's sessions do, beside a bystander that publishes and watches."""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from tests.soak.bench import table
from tests.soak.stranger import datagrams, faults, feedback, imports, media, offers, people, pictures, sctp, talk, web
from tests.soak.stranger.loss import Loss
from tests.soak.stranger.registry import Attempt, chosen
from tests.soak.stranger.world import Outcome, World

MODULES: Final = (datagrams, media, feedback, sctp, pictures, web, offers, talk, people, imports, faults)
"""Each adds its attempts."""

DURING, WORST, AFTER = 20, 15, 24
"""New pictures a second that the bystander must get, of the 25 before: on average during an attempt, in its
worst second (who attempts things works on the same cores), and on average after it.

A machine on which it gets fewer before is held to the same shares, and a guest's attempt to those of a guest who does
nothing. Shared machines slow down by themselves: an attempt that fails by pictures alone is made once more."""
NICENESS: Final = 10  # of those who attempt things: they would be on other machines
MEMORY: Final = 1.05  # of what it was before
LOG_SPARE: Final = 3  # lines, besides one a second
SECONDS, QUICK_SECONDS = 5.0, 2.5  # of an attempt that goes on


def strangers(arguments: argparse.Namespace) -> dict[str, Any]:
    """All attempts, or those that ``--only`` names by how they begin.

    ``--quick`` takes those of the short form unless others are named, and watches for a shorter time.
    """
    plan = chosen(arguments.only, arguments.quick and not arguments.only)
    seconds = SECONDS
    if arguments.quick:
        plan, seconds = quick(plan), QUICK_SECONDS

    async def run() -> dict[str, Any]:
        launcher = started_launcher()
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        # Told to stop, it ends what it has started.
        work = attempts(plan, launcher, engine=arguments.engine, seconds=seconds, file=arguments.report)
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    return asyncio.run(run())


def started_launcher() -> Executor:
    """A thread that starts servers and bystanders: they have the priority that it was made with."""
    launcher = ThreadPoolExecutor(1)
    launcher.submit(int).result()
    return launcher


def quick(plan: list[Attempt]) -> list[Attempt]:
    """The same attempts on one server, as far as they go, and watched for a shorter time afterwards."""
    return [
        replace(one, processes=1 if one.loss is Loss.NOTHING else None, after=min(one.after, QUICK_SECONDS))
        for one in plan
    ]


async def attempts(
    plan: list[Attempt],
    launcher: Executor,
    *,
    engine: str,
    seconds: float,
    strict: bool = True,
    file: Path | None = None,
) -> dict[str, Any]:
    """Run them; with ``strict`` false the bystander's pictures must only go on, as on a machine with other work.

    The report so far is in ``file`` after each of them.
    """
    outcomes: list[Outcome] = []
    failed: list[str] = []
    logs: list[str] = []
    world: World | None = None
    remaining = [(one, False) for one in reversed(plan)]
    try:
        while remaining:
            one, again = remaining.pop()
            if world is not None and not _serves(world, one):
                logs += await world.stop()
                world = None
            if world is None:
                world = World(engine, seconds, launcher, one.processes, small_disk=one.small_disk, strict=strict)
                await world.start()
            outcome = await world.watch(one)
            broken, few = broken_promises(outcome, strict), few_pictures(outcome) if strict else []
            if few and not broken and not again:
                remaining.append((one, True))
                mark = "once more"
            else:
                outcomes.append(replace(outcome, again=again))
                failed += broken + few
                mark = "FAILED" if broken or few else "held"
            done = f"{len(plan) - len(remaining)}/{len(plan)}"
            print(f"{done} {one.name}: {mark} {'; '.join(broken + few)}", file=sys.stderr, flush=True)
            if file:
                log = logs + world.server.errors
                file.write_text(json.dumps(_report(outcomes, failed, log), indent=1))
            if one.alone or not world.healthy:
                logs += await world.stop()
                world = None
    except asyncio.CancelledError:
        failed.append(f"told to stop after {len(outcomes)} of {len(plan)} attempts")
    finally:
        if world is not None:
            logs += await world.stop()
    return _report(outcomes, failed, logs)


def _report(outcomes: list[Outcome], failed: list[str], log: list[str]) -> dict[str, Any]:
    rows = [row(outcome) for outcome in outcomes]
    text = table(rows) if rows else "no attempt has such a name"
    return {"rows": rows, "outcomes": [asdict(one) for one in outcomes], "failed": failed, "text": text, "log": log}


def _serves(world: World, one: Attempt) -> bool:
    return (world.processes, world.small_disk) == (one.processes, one.small_disk)


def row(one: Outcome) -> dict[str, Any]:
    """What the table shows."""
    during, after = one.during or [0], one.after or [0]
    return {
        "attempt": one.name + (" (again)" if one.again else ""),
        "answer": one.answer[:60],
        "before": one.before,
        "beside": one.beside,
        "during, worst": min(during),
        "mean": round(sum(during) / len(during), 1),
        "after, worst": min(after),
        "mean ": round(sum(after) / len(after), 1),
        "MB before": round(one.memory_before),
        "MB after": round(one.memory_after),
        "tracebacks": one.tracebacks,
        "log lines": one.log_lines,
        "workers lost": one.workers_lost,
    }


def few_pictures(one: Outcome) -> list[str]:
    """Where the bystander had too few pictures, in sentences."""
    found, shown = [], row(one)
    quiet, beside = min(one.before / 25, 1.0), min(one.beside / 25, 1.0)
    if one.during and shown["mean"] < DURING * beside:
        found.append(f"{one.name}: the bystander had {shown['mean']} pictures a second during it")
    if one.during and shown["during, worst"] < WORST * beside:
        found.append(f"{one.name}: the bystander had a second of {shown['during, worst']} pictures during it")
    if one.after and shown["mean "] < AFTER * quiet:
        found.append(f"{one.name}: the bystander had {shown['mean ']} pictures a second after it")
    return found


def broken_promises(one: Outcome, strict: bool) -> list[str]:
    """What else did not hold, in sentences; memory only where ``strict``."""
    found = [f"{one.name}: {sentence}" for sentence in one.broken]
    if strict and one.memory_after > MEMORY * one.memory_before:
        found.append(f"{one.name}: {one.memory_before:.0f} MB became {one.memory_after:.0f}")
    if one.tracebacks:
        found.append(f"{one.name}: {one.tracebacks} tracebacks in the log")
    if one.log_lines > one.seconds + LOG_SPARE:
        found.append(f"{one.name}: {one.log_lines} lines of log in {one.seconds:.0f} s")
    if one.workers_lost:
        found.append(f"{one.name}: {one.workers_lost} worker processes lost")
    return found
