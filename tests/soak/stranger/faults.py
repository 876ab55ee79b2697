"""Faults of the server's machine: stopped and killed processes, a full disk, a deleted database."""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter

import httpx
import psutil

from tests.soak.stranger.allowed_loss import AllowedLoss
from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import Guest
from tests.soak.stranger.people import check_new_session, enrol, identity_command, upload_sample
from tests.soak.stranger.registry import attempt
from tests.soak.stranger.web import counted


async def other_session_process(env: Environment) -> psutil.Process:
    """A session process other than the bystander's; raises LookupError if there is only one."""
    own = await asyncio.to_thread(env.bystander_process)
    found = [one for one in env.session_processes() if one.pid != own.pid]
    if not found:
        raise LookupError("there is no other session process")
    return found[0]


@attempt(
    "faults.worker.stopped",
    "another session process is stopped (SIGSTOP), with a session in it",
    after=12,
    allowed_loss=AllowedLoss.WORKER,
)
async def stopped(env: Environment) -> str:
    async with Guest(env).connected() as guest:
        worker = await other_session_process(env)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(16)
        gone = not psutil.pid_exists(worker.pid) or worker.status() == psutil.STATUS_ZOMBIE
        if not gone:
            env.add_failure("the server did not end a stopped session process")
            worker.send_signal(signal.SIGCONT)
    await check_new_session(env)
    return f"ended: {gone}, its guest was {'connected' if guest.live else 'disconnected'}"


@attempt(
    "faults.worker.killed", "another session process is killed, with a session in it", allowed_loss=AllowedLoss.WORKER
)
async def killed(env: Environment) -> str:
    async with Guest(env).connected():
        (await other_session_process(env)).kill()
        await asyncio.sleep(2)
    await check_new_session(env)
    return "killed"


@attempt(
    "faults.worker.own",
    "the bystander's own session process is killed: the next session works",
    alone=True,
    after=0,
    allowed_loss=AllowedLoss.BYSTANDER,
)
async def own(env: Environment) -> str:
    (await asyncio.to_thread(env.bystander_process)).kill()
    await asyncio.sleep(2)
    await check_new_session(env)
    return "killed"


@attempt(
    "faults.forkserver",
    "the fork server, which starts session processes, is killed",
    alone=True,
    allowed_loss=AllowedLoss.WORKER,
)
async def forkserver(env: Environment) -> str:
    hosts = {one.pid for one in env.session_processes()}
    for one in psutil.Process(env.server.process.pid).children():
        if one.pid not in hosts:
            one.kill()
    await asyncio.sleep(1)
    await check_new_session(env)
    return "killed"


@attempt("faults.descriptors", "the server has no free file descriptors, and 200 connections wait", alone=True)
async def descriptors(env: Environment) -> str:
    number, statuses = env.server.process.pid, Counter[str]()
    before = resource.prlimit(number, resource.RLIMIT_NOFILE)
    used = psutil.Process(number).num_fds()
    resource.prlimit(number, resource.RLIMIT_NOFILE, (used + 5, before[1]))
    host, port = env.url.removeprefix("http://").split(":")
    opened = []
    for _ in range(200):
        with contextlib.suppress(OSError, TimeoutError):
            opened.append((await asyncio.wait_for(asyncio.open_connection(host, int(port)), 1))[1])
    for _ in range(10):
        try:
            async with env.http("mallory") as client:
                statuses[str((await client.get("/healthz", timeout=1)).status_code)] += 1
        except httpx.HTTPError as error:
            statuses[type(error).__name__] += 1
    for writer in opened:
        writer.close()
    await asyncio.sleep(2)
    resource.prlimit(number, resource.RLIMIT_NOFILE, before)
    await asyncio.sleep(3)
    await check_new_session(env)
    return counted(statuses)


@attempt(
    "faults.descriptors.worker",
    "the bystander's session process has no free file descriptors",
    processes=1,
    alone=True,
)
async def descriptors_worker(env: Environment) -> str:
    number, statuses = (await asyncio.to_thread(env.bystander_process)).pid, Counter[str]()
    before = resource.prlimit(number, resource.RLIMIT_NOFILE)
    resource.prlimit(number, resource.RLIMIT_NOFILE, (psutil.Process(number).num_fds(), before[1]))
    for _ in range(5):
        guest = Guest(env)
        response = await guest.connect(wait=False)
        statuses[str(response.status_code)] += 1
        if response.status_code >= 500 and response.status_code != 503:
            env.add_failure(f"an offer got {response.status_code}")
        await guest.leave()
    resource.prlimit(number, resource.RLIMIT_NOFILE, before)
    await check_new_session(env)
    return counted(statuses)


@attempt(
    "faults.database.deleted",
    "the library is deleted while the server runs: no 201 for a character that is not on disk",
    alone=True,
)
async def deleted(env: Environment) -> str:
    steps = []
    async with env.http("mallory") as client:
        upload = await upload_sample(client)
        first = await enrol(client, upload, name="Before")
        assert first.status_code == 201, first.text[:100]
        shutil.rmtree(env.library)
        response = await enrol(client, upload, name="After")
        steps.append(f"enrol {response.status_code}")
        if response.status_code == 201:
            key = response.headers["location"].rsplit("/", 1)[1]
            code, text = await identity_command(env, "list")
            if code != 0 or key not in text:
                env.add_failure("201 for a character that is not on disk")
        listed = await client.get("/identities")
        steps.append(f"list {listed.status_code}")
        for answer in (response, listed):
            if answer.status_code >= 500 and answer.status_code not in (503, 507):
                env.add_failure(f"without its library the server answers {answer.status_code}: {answer.text[:80]}")
    await check_new_session(env)
    return ", ".join(steps)


@attempt("faults.database.replaced", "the database is replaced by another library's", alone=True)
async def replaced(env: Environment) -> str:
    steps = []
    async with env.http("mallory") as client:
        upload = await upload_sample(client)
        assert (await enrol(client, upload, name="Before")).status_code == 201
        away = env.folder / "away"
        os.rename(env.library, away)
        code, _ = await identity_command(env, "list")  # creates a new library in its place
        steps.append(f"a new library {code}")
        response = await enrol(client, upload, name="After")
        steps.append(f"enrol {response.status_code}")
        if response.status_code == 201:
            code, text = await identity_command(env, "list")
            if "After" not in text:
                env.add_failure("201 for a character that is not in the new library")
    await check_new_session(env)
    return ", ".join(steps)


@attempt("faults.disk.full", "a disk of 4 MB that is full: enrol, list, remove, enrol", small_disk=True, alone=True)
async def full(env: Environment) -> str:
    steps = []
    async with env.http("mallory") as client:
        upload = await upload_sample(client)
        first = await enrol(client, upload, name="First")
        steps.append(f"enrol {first.status_code}")
        fill = env.library / "filling"
        with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        second = await enrol(client, upload, name="Second")
        steps.append(f"enrol full {second.status_code}")
        if second.status_code == 201 or (second.status_code >= 500 and second.status_code not in (503, 507)):
            env.add_failure(f"an enrolment on a full disk got {second.status_code}: {second.text[:80]}")
        listed = await client.get("/identities")
        steps.append(f"list {listed.status_code}")
        if listed.status_code != 200:
            env.add_failure(f"the list on a full disk got {listed.status_code}: {listed.text[:80]}")
        for action in (("list",), ("audit",), ("check",)):
            code, text = await identity_command(env, *action)
            steps.append(f"{action[0]} {code}")
            if code:
                env.add_failure(f"identity {action[0]} on a full disk: {text.strip()[-100:]}")
        if first.status_code == 201:
            removed = await client.delete(first.headers["location"])
            steps.append(f"remove {removed.status_code}")
            if removed.status_code != 204:
                env.add_failure(f"removing on a full disk got {removed.status_code}: {removed.text[:80]}")
        fill.unlink()
        third = await enrol(client, upload, name="Third")
        steps.append(f"enrol {third.status_code}")
        if third.status_code != 201:
            env.add_failure(f"an enrolment once there was room again got {third.status_code}")
    return ", ".join(steps)


@attempt("faults.two.servers", "a second server on the same library", alone=True)
async def two_servers(env: Environment) -> str:
    command_line = [
        sys.executable,
        "-m",
        "avatar_stream.cli",
        "serve",
        "--port",
        "0",
        "--engine",
        "warp",
        "--processes",
        "0",
    ]
    other = subprocess.Popen(
        [*command_line, "--library", str(env.library)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout
        line = await asyncio.to_thread(other.stdout.readline)
        url = line.split(" on ")[1].split(" ")[0]
        async with env.http("mallory") as client, httpx.AsyncClient(base_url=url, timeout=20) as second:
            upload, theirs = await upload_sample(client), await upload_sample(second)
            answers = await asyncio.gather(
                *(
                    enrol(one, key, name=f"Both{n}")
                    for n in range(3)
                    for one, key in ((client, upload), (second, theirs))
                )
            )
            statuses = Counter(str(answer.status_code) for answer in answers)
        code, text = await identity_command(env, "check")
        if code or "sound" not in text:
            env.add_failure(f"identity check after two servers: {text[:100]}")
        return counted(statuses)
    finally:
        other.terminate()
        await asyncio.to_thread(other.wait, 20)


@attempt("faults.tokens.gone", "the tokens file is deleted while the server runs")
async def tokens_gone(env: Environment) -> str:
    path = env.folder / "tokens"
    kept = path.read_bytes()
    path.unlink()
    async with env.http("mallory") as client, env.http() as nobody:
        one, two = await client.get("/whip"), await nobody.post("/whip", content=b"v=0")
    path.write_bytes(kept)
    if two.status_code != 401:
        env.add_failure(f"a request without a token got {two.status_code} after the tokens file was deleted")
    return f"{one.status_code}, without a token {two.status_code}"
