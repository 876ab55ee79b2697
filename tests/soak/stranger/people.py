"""Characters, uploads and links: somebody else's, and records that no command of ours writes."""

import asyncio
import contextlib
import io
import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
import websockets
from websockets.exceptions import WebSocketException

from avatar_stream.cli import main as cli
from avatar_stream.identity.library import SAMPLES
from tests.soak.stranger.guest import SDP, Guest
from tests.soak.stranger.registry import attempt
from tests.soak.stranger.talk import socket_url
from tests.soak.stranger.web import an_offer, told
from tests.soak.stranger.world import World

CONSENT: Final = "A sample portrait that is shipped for this"
RAW: Final = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # categories that no terminal is to get


async def uploaded(client: httpx.AsyncClient, name: str = "noor") -> str:
    """The id of a sample taken in as an upload."""
    response = await client.post("/identities", content=(SAMPLES / f"{name}.jpg").read_bytes())
    assert response.status_code == 201, f"an upload got {response.status_code}: {response.text[:100]}"
    return str(response.json()["id"])


async def enrolled(client: httpx.AsyncClient, upload: str, **about: Any) -> httpx.Response:
    """The answer to an enrolment."""
    body = {"pictures": [upload], "name": "Noor", "consent": CONSENT} | about
    content, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    try:
        return await client.post("/identities", content=content, headers=headers)
    except httpx.ReadError:  # an answer of 500 before this one has ended the connection
        return await client.post("/identities", content=content, headers=headers)


async def command(world: World, *arguments: str) -> tuple[int, str]:
    """``avatar-stream identity`` on the server's library, in this process: exit code (-1: a traceback) and output."""

    def run() -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                return cli.main(["identity", *arguments, "--library", str(world.library)]), out.getvalue()
            except SystemExit as end:
                return int(end.code or 0), out.getvalue()
            except Exception as error:
                return -1, f"{out.getvalue()}{type(error).__name__}: {error}"

    return await asyncio.to_thread(run)


async def still_works(world: World) -> None:
    """A new session must be let in and get pictures."""
    guest = Guest(world, "both")
    try:
        response = await guest.connect()
        if response.status_code != 201:
            world.broke(f"a new session got {response.status_code} afterwards")
        await guest.pictures(5)
        if guest.seen < 5:
            world.broke(f"a new session got {guest.seen} pictures afterwards")
    except (AssertionError, httpx.HTTPError) as error:
        world.broke(f"a new session was not let in afterwards: {type(error).__name__} {error}")
    finally:
        await guest.leave()


def raw_characters(text: str) -> str:
    """What of a text would reach a terminal raw, escaped here."""
    return (
        "".join(sorted({one for one in text if one not in "\n\t" and unicodedata.category(one) in RAW}))
        .encode("unicode_escape")
        .decode()
    )


@attempt("people.names", "escape sequences, direction marks and surrogates in an enrolment", alone=True)
async def names(world: World) -> str:
    statuses = Counter[str]()
    async with world.http("mallory") as client:
        upload = await uploaded(client)
        for number, odd in enumerate(
            ("\x1b[31mred", "a\u202ebc", "a\ud800", "a\u0000b", "\u2028", "a\u200fb", "\x9b31m", "\ufeff")
        ):
            for place in ("name", "consent", "description", "tags", "style"):
                value: Any = (
                    f"{odd} and more than ten characters" if place == "consent" else [odd] if place == "tags" else odd
                )
                response = await enrolled(client, upload, **({"name": f"N{number}{place}"} | {place: value}))
                statuses[str(response.status_code)] += 1
                if response.status_code >= 500:
                    world.broke(f"{odd!r} as {place} got {response.status_code}")
                if response.status_code == 201:
                    key = response.headers["location"].rsplit("/", 1)[1]
                    for changed_name in (odd, f"{odd}2"):
                        said = await client.patch(f"/identities/{key}", content=json.dumps({"name": changed_name}))
                        if said.status_code >= 500:
                            world.broke(f"{odd!r} as a new name got {said.status_code}")
                    for arguments in (("list",), ("show", key), ("audit",)):
                        code, text = await command(world, *arguments)
                        if code == -1 or raw_characters(text):
                            world.broke(
                                f"identity {arguments[0]} with {odd!r} as {place}: exit code {code}, "
                                f"prints {raw_characters(text) or text[-60:]} raw"
                            )
                    card = await client.get(f"/identities/{key}/card")
                    if card.status_code >= 500:
                        world.broke(f"the card of {odd!r} got {card.status_code}")
                    await client.delete(f"/identities/{key}")
    if any(raw_characters(line) for line in world.server.errors):
        world.broke("the server's log has raw characters")
    return told(statuses)


@attempt("people.protected", 'protected as "true", 1, "yes" and null: an error, not silence')
async def protected(world: World) -> str:
    statuses = []
    async with world.http("mallory") as client:
        upload = await uploaded(client, "walter")
        values: tuple[Any, ...] = ("true", 1, "yes", None, [], {})
        for value in values:
            response = await enrolled(client, upload, name="P", protected=value)
            statuses.append(response.status_code)
            if response.status_code == 201:
                world.broke(f"protected: {value!r} was taken for no")
                await client.delete(response.headers["location"])
    return f"{statuses}"


@attempt("people.refused", "a refused enrolment leaves no file behind")
async def refused(world: World) -> str:
    def files() -> set[str]:
        # What SQLite itself writes beside its database is no picture.
        return {
            str(one)
            for one in world.library.rglob("*")
            if one.is_file() and "-wal" not in one.name and "-shm" not in one.name
        }

    statuses = []
    async with world.http("mallory") as client:
        upload, two = await uploaded(client, "samuel"), await uploaded(client, "noor")
        assert (await enrolled(client, upload, name="Taken")).status_code == 201
        before = files()
        for about in (
            {"name": "Taken"},
            {"name": "a\ud800"},
            {"name": ""},
            {"consent": "x"},
            {"description": "a\ud800"},
            {"tags": ["a"] * 30 + [str(k) for k in range(30)]},
            {"style": "none"},
            {"description": "x" * 3000},
            {"name": "Two", "pictures": [upload, two]},
            {"tags": ["a\ud800"]},
        ):
            response = await enrolled(client, upload, **({"name": "Other"} | about))
            statuses.append(response.status_code)
            if response.status_code >= 500:
                world.broke(f"{str(about)[:60]} got {response.status_code}")
            if response.status_code == 201:
                await client.delete(response.headers["location"])
        left = files() - before
        if left:
            world.broke(
                f"refused enrolments left {len(left)} files of {sum(Path(one).stat().st_size for one in left)} bytes"
            )
        for one in (await client.get("/identities")).json()["identities"]:
            if not one["sample"]:
                await client.delete(f"/identities/{one['id']}")
    return f"{statuses}, {len(left)} files left"


@attempt("people.others", "another token's upload and character: enrolled, changed, removed, looked at")
async def others(world: World) -> str:
    said = []
    async with world.http("bystander") as own, world.http("mallory") as mallory, world.http() as nobody:
        upload = await uploaded(own)
        response = await enrolled(own, upload, name="Mine")
        assert response.status_code == 201, response.text[:100]
        key = response.headers["location"].rsplit("/", 1)[1]
        offer = await an_offer(world, "both")
        tries = {
            "enrols an upload": await enrolled(mallory, upload, name="Stolen"),
            "shows an upload": await mallory.post(
                "/session", params={"portrait": upload}, content=offer, headers=SDP
            ),
            "looks at an upload": await mallory.get(f"/identities/{upload}"),
            "looks at a character": await mallory.get(f"/identities/{key}"),
            "shows a character": await mallory.post("/session", params={"portrait": key}, content=offer, headers=SDP),
            "reads a card": await mallory.get(f"/identities/{key}/card"),
            "renames a character": await mallory.patch(f"/identities/{key}", content=b'{"name": "Hers"}'),
            "removes a character": await mallory.delete(f"/identities/{key}"),
            "without a token looks at an upload": await nobody.get(f"/identities/{upload}"),
            "without a token looks at a character": await nobody.get(f"/identities/{key}"),
            "removes an upload": await mallory.delete(f"/identities/{upload}"),
        }
        for name, answer in tries.items():
            said.append(str(answer.status_code))
            if answer.status_code < 400:
                world.broke(f"another one {name}: {answer.status_code}")
                if answer.status_code == 201:
                    await mallory.delete(answer.headers["location"])
        await own.delete(f"/identities/{key}")
        await own.delete(f"/identities/{upload}")
    return " ".join(said)


@attempt("people.links", "a link that outlives its session, for a name that another token takes over", short=True)
async def links(world: World) -> str:
    said = []
    first = Guest(world, name="publisher", session="stage")
    await first.connect()
    async with world.http("publisher") as client:
        response = await client.post(f"/links/{first.location.rsplit('/', 1)[1]}")
        said.append(f"link {response.status_code}")
        if response.status_code == 201:
            world.broke("a token that may not watch made a link to watch")
    async with world.http("boss") as client:
        made = await client.post(f"/links/{first.location.rsplit('/', 1)[1]}")
    await first.leave()
    tokens = [one.json()["path"].partition("#")[2] for one in (response, made) if one.status_code == 201]
    async with Guest(world, name="mallory", session="stage").joined() as second:
        offer = await an_offer(world, "view")
        async with world.http() as client:
            for token in tokens:
                watched = await client.post(
                    "/whep/stage", content=offer, headers=SDP | {"Authorization": f"Bearer {token}"}
                )
                said.append(f"whep {watched.status_code}")
                if watched.status_code == 201:
                    world.broke("a link to a session that ended shows another owner's pictures")
                with contextlib.suppress(WebSocketException, OSError, TimeoutError):
                    async with websockets.connect(socket_url(world, "/motion/stage")) as socket:
                        await socket.send(json.dumps({"type": "token", "value": token}))
                        await asyncio.wait_for(socket.recv(), 5)
                        world.broke("a link to a session that ended tells another owner's motion")
        assert second.live
    return ", ".join(said)


@attempt("people.link.scope", "a viewer's link used for everything but watching")
async def link_scope(world: World) -> str:
    said = []
    async with Guest(world, session="linked").joined() as guest:
        key = guest.location.rsplit("/", 1)[1]
        async with world.http("mallory") as client:
            token = (await client.post(f"/links/{key}")).json()["path"].partition("#")[2]
        async with world.http() as client:
            client.headers["Authorization"] = f"Bearer {token}"
            offer = await an_offer(world)
            for method, path in (
                ("POST", "/whip"),
                ("POST", "/session"),
                ("POST", "/whep/bystander"),
                ("POST", f"/links/{key}"),
                ("DELETE", guest.location),
                ("GET", "/metrics"),
                ("POST", "/identities"),
                ("DELETE", f"/links/{key}"),
            ):
                response = await client.request(method, path, content=offer, headers=SDP)
                said.append(str(response.status_code))
                if response.status_code < 400:
                    world.broke(f"a viewer's link may {method} {path.split('/')[1]}: {response.status_code}")
    return " ".join(said)
