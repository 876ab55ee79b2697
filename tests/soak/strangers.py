"""Runs attempts by outsiders and other sessions, beside a bystander that publishes and watches."""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tests.soak.bench import table
from tests.soak.stranger import datagrams, faults, feedback, imports, media, offers, people, pictures, sctp, talk, web
from tests.soak.stranger.allowed_loss import AllowedLoss
from tests.soak.stranger.environment import Environment, Outcome
from tests.soak.stranger.registry import Attempt, chosen

MODULES: Final = (datagrams, media, feedback, sctp, pictures, web, offers, talk, people, imports, faults)
"""Importing these modules registers their attempts."""

MIN_FPS_DURING, MIN_FPS_IN_WORST_SECONDS, MIN_FPS_AFTER = 20, 15, 24
"""New pictures a second that the bystander must get, of 25: on average during an attempt, in its worst two seconds
(the attempt itself uses the same cores), and on average after it.

If the bystander gets fewer than 25 before the attempt, the limits shrink by the same share. The baseline of a guest's
attempt is measured beside a guest that does nothing. Shared machines slow down by themselves: an attempt that fails
by pictures alone is repeated once."""
ATTEMPT_NICENESS: Final = 10  # of this process: outsiders use other machines' processors
MAX_MEMORY_RATIO: Final = 1.05  # memory after an attempt to memory before
SPARE_LOG_LINES: Final = 3  # allowed in addition to one line a second
ATTEMPT_SECONDS, QUICK_ATTEMPT_SECONDS = 5.0, 2.5  # duration of attempts that repeat something


def strangers(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all attempts, or those whose names begin with one of ``--only``.

    ``--quick`` observes for a shorter time and, without ``--only``, runs only attempts marked ``short``.
    """
    plan = chosen(arguments.only, arguments.quick and not arguments.only)
    seconds = ATTEMPT_SECONDS
    if arguments.quick:
        plan, seconds = shortened(plan), QUICK_ATTEMPT_SECONDS

    async def run() -> dict[str, Any]:
        launcher = started_launcher()
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ATTEMPT_NICENESS)
        # On SIGTERM the attempts end the processes that they started.
        work = attempts(plan, launcher, engine=arguments.engine, seconds=seconds, file=arguments.report)
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    return asyncio.run(run())


def started_launcher() -> Executor:
    """A thread that starts servers and bystanders. They inherit the priority at which it was started."""
    launcher = ThreadPoolExecutor(1)
    launcher.submit(int).result()
    return launcher


def shortened(plan: list[Attempt]) -> list[Attempt]:
    """The same attempts, on one server where possible, and observed for a shorter time afterwards."""
    return [
        replace(
            one,
            processes=1 if one.allowed_loss is AllowedLoss.NOTHING else None,
            after=min(one.after, QUICK_ATTEMPT_SECONDS),
        )
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
    """Run attempts and return the report. Without ``strict``, for machines with other load, the bystander must only
    keep getting pictures, at any rate. ``file`` gets the report so far after each attempt.
    """
    outcomes: list[Outcome] = []
    failed: list[str] = []
    logs: list[str] = []
    env: Environment | None = None
    remaining = [(one, False) for one in reversed(plan)]
    try:
        while remaining:
            one, repeated = remaining.pop()
            if env is not None and not _is_fit_for(env, one):
                logs += await env.stop()
                env = None
            if env is None:
                env = Environment(engine, seconds, launcher, one.processes, small_disk=one.small_disk, strict=strict)
                await env.start()
            outcome = await env.run_attempt(one)
            broken = failures_of(outcome, strict)
            few = picture_failures_of(outcome) if strict and not one.reference else []
            if few and not broken and not repeated:
                remaining.append((one, True))
                mark = "is repeated"
            else:
                outcomes.append(replace(outcome, repeated=repeated))
                failed += broken + few
                mark = "FAILED" if broken or few else "passed"
            done = f"{len(outcomes)}/{len(plan)}"
            print(f"{done} {one.name}: {mark} {'; '.join(broken + few)}", file=sys.stderr, flush=True)
            if file:
                log = logs + env.server.log_lines
                file.write_text(json.dumps(_report(outcomes, failed, log), indent=1))
            if one.alone or not env.healthy:
                logs += await env.stop()
                env = None
    except asyncio.CancelledError:
        failed.append(f"stopped by a signal after {len(outcomes)} of {len(plan)} attempts")
    finally:
        if env is not None:
            logs += await env.stop()
    return _report(outcomes, failed, logs)


def _report(outcomes: list[Outcome], failed: list[str], log: list[str]) -> dict[str, Any]:
    rows = [row(outcome) for outcome in outcomes]
    text = table(rows) if rows else "no attempt's name begins like that"
    return {"rows": rows, "outcomes": [asdict(one) for one in outcomes], "failed": failed, "text": text, "log": log}


def _is_fit_for(env: Environment, one: Attempt) -> bool:
    return (env.processes, env.small_disk) == (one.processes, one.small_disk)


def row(one: Outcome) -> dict[str, Any]:
    """An outcome's row of the table."""
    during, after = one.during or [0], one.after or [0]
    return {
        "attempt": one.name + (" (repeated)" if one.repeated else ""),
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


def picture_failures_of(one: Outcome) -> list[str]:
    """One sentence for each limit that the bystander's pictures missed."""
    found, shown = [], row(one)
    quiet, beside = min(one.before / 25, 1.0), min(one.beside / 25, 1.0)
    if one.during and shown["mean"] < MIN_FPS_DURING * beside:
        found.append(f"{one.name}: the bystander got {shown['mean']} pictures a second during it")
    worst = min((sum(pair) / 2 for pair in pairwise(one.during)), default=25.0)
    if worst < MIN_FPS_IN_WORST_SECONDS * beside:
        found.append(f"{one.name}: the bystander got {worst} pictures a second in the worst two seconds during it")
    if one.after and shown["mean "] < MIN_FPS_AFTER * quiet:
        found.append(f"{one.name}: the bystander got {shown['mean ']} pictures a second after it")
    return found


def failures_of(one: Outcome, strict: bool) -> list[str]:
    """One sentence for each other check that failed; memory is checked only with ``strict``."""
    found = [f"{one.name}: {sentence}" for sentence in one.broken]
    if strict and one.memory_after > MAX_MEMORY_RATIO * one.memory_before:
        found.append(f"{one.name}: memory grew from {one.memory_before:.0f} to {one.memory_after:.0f} MB")
    if one.tracebacks:
        found.append(f"{one.name}: {one.tracebacks} tracebacks in the log")
    if one.log_lines > one.seconds + SPARE_LOG_LINES:
        found.append(f"{one.name}: {one.log_lines} lines of log in {one.seconds:.0f} s")
    if one.workers_lost:
        found.append(f"{one.name}: {one.workers_lost} session processes lost")
    return found
