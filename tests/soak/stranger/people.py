"""Characters, uploads and links of other users, and invalid enrolments."""

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
from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import SDP_HEADERS, Guest
from tests.soak.stranger.registry import attempt
from tests.soak.stranger.talk import socket_url
from tests.soak.stranger.web import counted, make_offer

CONSENT: Final = "A sample portrait that is shipped for this"
UNPRINTABLE_CATEGORIES: Final = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # Unicode categories that no terminal may get


async def upload_sample(client: httpx.AsyncClient, name: str = "noor") -> str:
    """Upload a sample's picture; returns its id."""
    response = await client.post("/identities", content=(SAMPLES / f"{name}.jpg").read_bytes())
    assert response.status_code == 201, f"an upload got {response.status_code}: {response.text[:100]}"
    return str(response.json()["id"])


async def enrol(client: httpx.AsyncClient, upload: str, **about: Any) -> httpx.Response:
    """POST an enrolment; returns the answer."""
    body = {"pictures": [upload], "name": "Noor", "consent": CONSENT} | about
    content, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    try:
        return await client.post("/identities", content=content, headers=headers)
    except httpx.ReadError:  # the previous answer was a 500, which closed the connection
        return await client.post("/identities", content=content, headers=headers)


async def identity_command(env: Environment, *arguments: str) -> tuple[int, str]:
    """Run ``avatar-stream identity`` on the server's library in this process: exit code (-1: exception), output."""

    def run() -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                return cli.main(["identity", *arguments, "--library", str(env.library)]), out.getvalue()
            except SystemExit as end:
                return int(end.code or 0), out.getvalue()
            except Exception as error:
                return -1, f"{out.getvalue()}{type(error).__name__}: {error}"

    return await asyncio.to_thread(run)


async def check_new_session(env: Environment) -> None:
    """Add a failure unless a new session is admitted and gets pictures."""
    guest = Guest(env, "both")
    try:
        response = await guest.connect()
        if response.status_code != 201:
            env.add_failure(f"a new session got {response.status_code} afterwards")
        await guest.wait_for_pictures(5)
        if guest.seen < 5:
            env.add_failure(f"a new session got {guest.seen} pictures afterwards")
    except (AssertionError, httpx.HTTPError) as error:
        env.add_failure(f"a new session did not connect afterwards: {type(error).__name__} {error}")
    finally:
        await guest.leave()


def unprintable_characters(text: str) -> str:
    """The unprintable characters of a text, escaped."""
    return (
        "".join(
            sorted({one for one in text if one not in "\n\t" and unicodedata.category(one) in UNPRINTABLE_CATEGORIES})
        )
        .encode("unicode_escape")
        .decode()
    )


@attempt("people.names", "escape sequences, direction marks and surrogates in an enrolment", alone=True)
async def names(env: Environment) -> str:
    statuses = Counter[str]()
    async with env.http("mallory") as client:
        upload = await upload_sample(client)
        for number, odd in enumerate(
            ("\x1b[31mred", "a\u202ebc", "a\ud800", "a\u0000b", "\u2028", "a\u200fb", "\x9b31m", "\ufeff")
        ):
            for place in ("name", "consent", "description", "tags", "style"):
                value: Any = (
                    f"{odd} and more than ten characters" if place == "consent" else [odd] if place == "tags" else odd
                )
                response = await enrol(client, upload, **({"name": f"N{number}{place}"} | {place: value}))
                statuses[str(response.status_code)] += 1
                if response.status_code >= 500:
                    env.add_failure(f"{odd!r} as {place} got {response.status_code}")
                if response.status_code == 201:
                    key = response.headers["location"].rsplit("/", 1)[1]
                    for changed_name in (odd, f"{odd}2"):
                        renamed = await client.patch(f"/identities/{key}", content=json.dumps({"name": changed_name}))
                        if renamed.status_code >= 500:
                            env.add_failure(f"{odd!r} as a new name got {renamed.status_code}")
                    for arguments in (("list",), ("show", key), ("audit",)):
                        code, text = await identity_command(env, *arguments)
                        if code == -1 or unprintable_characters(text):
                            env.add_failure(
                                f"identity {arguments[0]} with {odd!r} as {place}: exit code {code}, "
                                f"prints {unprintable_characters(text) or text[-60:]} raw"
                            )
                    card = await client.get(f"/identities/{key}/card")
                    if card.status_code >= 500:
                        env.add_failure(f"the card of {odd!r} got {card.status_code}")
                    await client.delete(f"/identities/{key}")
    if any(unprintable_characters(line) for line in env.server.log_lines):
        env.add_failure("the server's log has unprintable characters")
    return counted(statuses)


@attempt("people.protected", 'protected as "true", 1, "yes" and null: must be refused')
async def protected(env: Environment) -> str:
    statuses = []
    async with env.http("mallory") as client:
        upload = await upload_sample(client, "walter")
        values: tuple[Any, ...] = ("true", 1, "yes", None, [], {})
        for value in values:
            response = await enrol(client, upload, name="P", protected=value)
            statuses.append(response.status_code)
            if response.status_code == 201:
                env.add_failure(f"protected: {value!r} was accepted")
                await client.delete(response.headers["location"])
    return f"{statuses}"


@attempt("people.refused", "a refused enrolment leaves no file behind")
async def refused(env: Environment) -> str:
    def files() -> set[str]:
        # Without SQLite's own files beside the database.
        return {
            str(one)
            for one in env.library.rglob("*")
            if one.is_file() and "-wal" not in one.name and "-shm" not in one.name
        }

    statuses = []
    async with env.http("mallory") as client:
        upload, two = await upload_sample(client, "samuel"), await upload_sample(client, "noor")
        assert (await enrol(client, upload, name="Taken")).status_code == 201
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
            response = await enrol(client, upload, **({"name": "Other"} | about))
            statuses.append(response.status_code)
            if response.status_code >= 500:
                env.add_failure(f"{str(about)[:60]} got {response.status_code}")
            if response.status_code == 201:
                await client.delete(response.headers["location"])
        left = files() - before
        if left:
            env.add_failure(
                f"refused enrolments left {len(left)} files of {sum(Path(one).stat().st_size for one in left)} bytes"
            )
        for one in (await client.get("/identities")).json()["identities"]:
            if not one["sample"]:
                await client.delete(f"/identities/{one['id']}")
    return f"{statuses}, {len(left)} files left"


@attempt("people.others", "another token's upload and character: enrol, changed, removed, looked at")
async def others(env: Environment) -> str:
    statuses = []
    async with env.http("bystander") as own, env.http("mallory") as mallory, env.http() as nobody:
        upload = await upload_sample(own)
        response = await enrol(own, upload, name="Mine")
        assert response.status_code == 201, response.text[:100]
        key = response.headers["location"].rsplit("/", 1)[1]
        offer = await make_offer(env, "both")
        tries = {
            "enrols an upload": await enrol(mallory, upload, name="Stolen"),
            "shows an upload": await mallory.post(
                "/session", params={"portrait": upload}, content=offer, headers=SDP_HEADERS
            ),
            "looks at an upload": await mallory.get(f"/identities/{upload}"),
            "looks at a character": await mallory.get(f"/identities/{key}"),
            "shows a character": await mallory.post(
                "/session", params={"portrait": key}, content=offer, headers=SDP_HEADERS
            ),
            "reads a card": await mallory.get(f"/identities/{key}/card"),
            "renames a character": await mallory.patch(f"/identities/{key}", content=b'{"name": "Hers"}'),
            "removes a character": await mallory.delete(f"/identities/{key}"),
            "without a token looks at an upload": await nobody.get(f"/identities/{upload}"),
            "without a token looks at a character": await nobody.get(f"/identities/{key}"),
            "removes an upload": await mallory.delete(f"/identities/{upload}"),
        }
        for name, answer in tries.items():
            statuses.append(str(answer.status_code))
            if answer.status_code < 400:
                env.add_failure(f"mallory {name}: {answer.status_code}")
                if answer.status_code == 201:
                    await mallory.delete(answer.headers["location"])
        await own.delete(f"/identities/{key}")
        await own.delete(f"/identities/{upload}")
    return " ".join(statuses)


@attempt("people.links", "a link to a session that ended, after another token took over its name", short=True)
async def links(env: Environment) -> str:
    steps = []
    first = Guest(env, name="publisher", session="stage")
    await first.connect()
    async with env.http("publisher") as client:
        response = await client.post(f"/links/{first.location.rsplit('/', 1)[1]}")
        steps.append(f"link {response.status_code}")
        if response.status_code == 201:
            env.add_failure("a token without the scope view made a viewer's link")
    async with env.http("boss") as client:
        made = await client.post(f"/links/{first.location.rsplit('/', 1)[1]}")
    await first.leave()
    tokens = [one.json()["path"].partition("#")[2] for one in (response, made) if one.status_code == 201]
    async with Guest(env, name="mallory", session="stage").connected() as second:
        offer = await make_offer(env, "view")
        async with env.http() as client:
            for token in tokens:
                watched = await client.post(
                    "/whep/stage", content=offer, headers=SDP_HEADERS | {"Authorization": f"Bearer {token}"}
                )
                steps.append(f"whep {watched.status_code}")
                if watched.status_code == 201:
                    env.add_failure("a link to a session that ended shows another owner's pictures")
                with contextlib.suppress(WebSocketException, OSError, TimeoutError):
                    async with websockets.connect(socket_url(env, "/motion/stage")) as socket:
                        await socket.send(json.dumps({"type": "token", "value": token}))
                        await asyncio.wait_for(socket.recv(), 5)
                        env.add_failure("a link to a session that ended sends another owner's motion")
        assert second.live
    return ", ".join(steps)


@attempt("people.link.scope", "a viewer's link used for anything other than watching")
async def link_scope(env: Environment) -> str:
    statuses = []
    async with Guest(env, session="linked").connected() as guest:
        key = guest.location.rsplit("/", 1)[1]
        async with env.http("mallory") as client:
            token = (await client.post(f"/links/{key}")).json()["path"].partition("#")[2]
        async with env.http() as client:
            client.headers["Authorization"] = f"Bearer {token}"
            offer = await make_offer(env)
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
                response = await client.request(method, path, content=offer, headers=SDP_HEADERS)
                statuses.append(str(response.status_code))
                if response.status_code < 400:
                    env.add_failure(f"a viewer's link may {method} {path.split('/')[1]}: {response.status_code}")
    return " ".join(statuses)
