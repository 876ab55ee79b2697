"""What happens to a server: processes that stop or end, a disk that is full, a database that is gone."""

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

from tests.soak.stranger.guest import Guest
from tests.soak.stranger.loss import Loss
from tests.soak.stranger.people import command, enrolled, still_works, uploaded
from tests.soak.stranger.registry import attempt
from tests.soak.stranger.web import told
from tests.soak.stranger.world import World


async def other_worker(world: World) -> psutil.Process:
    """A worker that hosts a session, and not the bystander's; raises LookupError where there is one worker only."""
    own = await asyncio.to_thread(world.worker_of_bystander)
    found = [one for one in world.processes_of() if one.pid != own.pid]
    if not found:
        raise LookupError("there is no other worker")
    return found[0]


@attempt("faults.worker.stopped", "another worker is stopped, with a session in it", after=12, loss=Loss.WORKER)
async def stopped(world: World) -> str:
    async with Guest(world).joined() as guest:
        worker = await other_worker(world)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(16)
        gone = not psutil.pid_exists(worker.pid) or worker.status() == psutil.STATUS_ZOMBIE
        if not gone:
            world.broke("a worker that was stopped was not ended")
            worker.send_signal(signal.SIGCONT)
    await still_works(world)
    return f"ended: {gone}, its guest was {'there' if guest.live else 'gone'}"


@attempt("faults.worker.killed", "another worker is killed, with a session in it", loss=Loss.WORKER)
async def killed(world: World) -> str:
    async with Guest(world).joined():
        (await other_worker(world)).kill()
        await asyncio.sleep(2)
    await still_works(world)
    return "killed"


@attempt(
    "faults.worker.own",
    "the bystander's own worker is killed: the next session is let in",
    alone=True,
    after=0,
    loss=Loss.BYSTANDER,
)
async def own(world: World) -> str:
    (await asyncio.to_thread(world.worker_of_bystander)).kill()
    await asyncio.sleep(2)
    await still_works(world)
    return "killed"


@attempt("faults.forkserver", "the process that starts workers is killed", alone=True, loss=Loss.WORKER)
async def forkserver(world: World) -> str:
    hosts = {one.pid for one in world.processes_of()}
    for one in psutil.Process(world.server.process.pid).children():
        if one.pid not in hosts:
            one.kill()
    await asyncio.sleep(1)
    await still_works(world)
    return "killed"


@attempt("faults.descriptors", "the server may open no more files, and 200 connections wait", alone=True)
async def descriptors(world: World) -> str:
    number, statuses = world.server.process.pid, Counter[str]()
    before = resource.prlimit(number, resource.RLIMIT_NOFILE)
    used = psutil.Process(number).num_fds()
    resource.prlimit(number, resource.RLIMIT_NOFILE, (used + 5, before[1]))
    host, port = world.url.removeprefix("http://").split(":")
    opened = []
    for _ in range(200):
        with contextlib.suppress(OSError, TimeoutError):
            opened.append((await asyncio.wait_for(asyncio.open_connection(host, int(port)), 1))[1])
    for _ in range(10):
        try:
            async with world.http("mallory") as client:
                statuses[str((await client.get("/healthz", timeout=1)).status_code)] += 1
        except httpx.HTTPError as error:
            statuses[type(error).__name__] += 1
    for writer in opened:
        writer.close()
    await asyncio.sleep(2)
    resource.prlimit(number, resource.RLIMIT_NOFILE, before)
    await asyncio.sleep(3)
    await still_works(world)
    return told(statuses)


@attempt("faults.descriptors.worker", "the bystander's worker may open no more files", processes=1, alone=True)
async def descriptors_worker(world: World) -> str:
    number, statuses = (await asyncio.to_thread(world.worker_of_bystander)).pid, Counter[str]()
    before = resource.prlimit(number, resource.RLIMIT_NOFILE)
    resource.prlimit(number, resource.RLIMIT_NOFILE, (psutil.Process(number).num_fds(), before[1]))
    for _ in range(5):
        guest = Guest(world)
        response = await guest.connect(wait=False)
        statuses[str(response.status_code)] += 1
        if response.status_code >= 500 and response.status_code != 503:
            world.broke(f"an offer got {response.status_code}")
        await guest.leave()
    resource.prlimit(number, resource.RLIMIT_NOFILE, before)
    await still_works(world)
    return told(statuses)


@attempt(
    "faults.database.deleted",
    "the library is deleted while the server runs: no 201 for what is not on disk",
    alone=True,
)
async def deleted(world: World) -> str:
    said = []
    async with world.http("mallory") as client:
        upload = await uploaded(client)
        first = await enrolled(client, upload, name="Before")
        assert first.status_code == 201, first.text[:100]
        shutil.rmtree(world.library)
        response = await enrolled(client, upload, name="After")
        said.append(f"enrol {response.status_code}")
        if response.status_code == 201:
            key = response.headers["location"].rsplit("/", 1)[1]
            code, text = await command(world, "list")
            if code != 0 or key not in text:
                world.broke("201 for a character that is not on disk")
        listed = await client.get("/identities")
        said.append(f"list {listed.status_code}")
        for answer in (response, listed):
            if answer.status_code >= 500 and answer.status_code not in (503, 507):
                world.broke(f"without its library the server says {answer.status_code}: {answer.text[:80]}")
    await still_works(world)
    return ", ".join(said)


@attempt("faults.database.replaced", "the database is replaced by another library's", alone=True)
async def replaced(world: World) -> str:
    said = []
    async with world.http("mallory") as client:
        upload = await uploaded(client)
        assert (await enrolled(client, upload, name="Before")).status_code == 201
        away = world.folder / "away"
        os.rename(world.library, away)
        code, _ = await command(world, "list")  # makes a new one in its place
        said.append(f"a new library {code}")
        response = await enrolled(client, upload, name="After")
        said.append(f"enrol {response.status_code}")
        if response.status_code == 201:
            code, text = await command(world, "list")
            if "After" not in text:
                world.broke("201 for a character that is not in the library that is there now")
    await still_works(world)
    return ", ".join(said)


@attempt("faults.disk.full", "a disk of 4 MB that is full: enrol, list, remove, enrol", small_disk=True, alone=True)
async def full(world: World) -> str:
    said = []
    async with world.http("mallory") as client:
        upload = await uploaded(client)
        first = await enrolled(client, upload, name="First")
        said.append(f"enrol {first.status_code}")
        fill = world.library / "filling"
        with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        second = await enrolled(client, upload, name="Second")
        said.append(f"enrol full {second.status_code}")
        if second.status_code == 201 or (second.status_code >= 500 and second.status_code not in (503, 507)):
            world.broke(f"an enrolment on a full disk got {second.status_code}: {second.text[:80]}")
        listed = await client.get("/identities")
        said.append(f"list {listed.status_code}")
        if listed.status_code != 200:
            world.broke(f"the list on a full disk got {listed.status_code}: {listed.text[:80]}")
        for action in (("list",), ("audit",), ("check",)):
            code, text = await command(world, *action)
            said.append(f"{action[0]} {code}")
            if code:
                world.broke(f"identity {action[0]} on a full disk: {text.strip()[-100:]}")
        if first.status_code == 201:
            removed = await client.delete(first.headers["location"])
            said.append(f"remove {removed.status_code}")
            if removed.status_code != 204:
                world.broke(f"removing on a full disk got {removed.status_code}: {removed.text[:80]}")
        fill.unlink()
        third = await enrolled(client, upload, name="Third")
        said.append(f"enrol {third.status_code}")
        if third.status_code != 201:
            world.broke(f"an enrolment once there was room again got {third.status_code}")
    return ", ".join(said)


@attempt("faults.two.servers", "a second server on the same library", alone=True)
async def two_servers(world: World) -> str:
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
        [*command_line, "--library", str(world.library)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout
        line = await asyncio.to_thread(other.stdout.readline)
        url = line.split(" on ")[1].split(" ")[0]
        async with world.http("mallory") as client, httpx.AsyncClient(base_url=url, timeout=20) as second:
            upload, theirs = await uploaded(client), await uploaded(second)
            answers = await asyncio.gather(
                *(
                    enrolled(one, key, name=f"Both{n}")
                    for n in range(3)
                    for one, key in ((client, upload), (second, theirs))
                )
            )
            statuses = Counter(str(answer.status_code) for answer in answers)
        code, text = await command(world, "check")
        if code or "sound" not in text:
            world.broke(f"identity check after two servers: {text[:100]}")
        return told(statuses)
    finally:
        other.terminate()
        await asyncio.to_thread(other.wait, 20)


@attempt("faults.tokens.gone", "the tokens file is deleted while the server runs")
async def tokens_gone(world: World) -> str:
    path = world.folder / "tokens"
    kept = path.read_bytes()
    path.unlink()
    async with world.http("mallory") as client, world.http() as nobody:
        one, two = await client.get("/whip"), await nobody.post("/whip", content=b"v=0")
    path.write_bytes(kept)
    if two.status_code != 401:
        world.broke(f"nobody got {two.status_code} once the tokens file was gone")
    return f"{one.status_code}, nobody {two.status_code}"
