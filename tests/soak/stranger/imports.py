"""Imports of characters with contents that no library exports."""

import asyncio
import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any, Final

import httpx
import numpy as np
from aiortc import RTCSessionDescription
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from avatar_stream.identity.enrol import as_jpeg
from avatar_stream.identity.export_import import export_character
from avatar_stream.identity.store import Store
from tests.soak.attacks import decompression_bomb
from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import SDP_HEADERS, Guest
from tests.soak.stranger.people import (
    check_new_session,
    enrol,
    identity_command,
    unprintable_characters,
    upload_sample,
)
from tests.soak.stranger.registry import attempt

ACCEPTED_IMPORTS: Final = (
    "two names",
    "id path",
    "quality of 1e308",
    "consent by escape",
    "consent escape",
    "description escape",
)
"""Imports that may succeed, if no command prints their control characters."""


async def exported_noor(env: Environment) -> bytes:
    """A character file, exported from the server's library."""
    async with env.http("boss") as client:
        found = (await client.get("/identities")).json()["identities"]
        keys = [one["id"] for one in found if one["name"] == "Exported"]
        if not keys:
            response = await enrol(client, await upload_sample(client), name="Exported")
            assert response.status_code == 201, response.text[:200]
            keys = [response.headers["location"].rsplit("/", 1)[1]]

    def export() -> bytes:
        store = Store(env.library)
        try:
            return export_character(store, store.get(keys[0]), "boss")
        finally:
            store.close()

    return await asyncio.to_thread(export)


def resigned(
    data: bytes,
    change: Callable[[dict[str, Any]], Any],
    raw: Callable[[str], str] = lambda text: text,
    swap: dict[str, bytes] | None = None,
) -> bytes:
    """The same file with a changed manifest and other pictures (``swap``), signed with a new key."""
    key = Ed25519PrivateKey.generate()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    for name, content in (swap or {}).items():
        files[name] = content
        manifest["files"][name.replace("-", " ")] = hashlib.sha256(content).hexdigest()
    change(manifest)
    manifest["key"] = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    text = raw(json.dumps(manifest, sort_keys=True)).encode("utf-8", "surrogatepass")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("manifest.json", text)
        archive.writestr("signature", key.sign(text))
        for name, content in files.items():
            if name.startswith("source"):
                archive.writestr(name, content)
    return out.getvalue()


def nested(depth: int) -> Any:
    """A list nested ``depth`` deep."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


async def show_and_remove(env: Environment, name: str) -> list[str]:
    """Fetch all imported characters, show each in a session of the admin's, and remove it."""
    steps = []
    async with env.http("boss") as client:
        response = await client.get("/identities")
        steps.append(f"list {response.status_code}")
        if response.status_code != 200:
            return steps
        for one in response.json()["identities"]:
            if one["sample"] or one["name"] == "Exported":
                continue
            for path in (f"/identities/{one['id']}", f"/identities/{one['id']}/card"):
                status = (await client.get(path)).status_code
                if status >= 500:
                    env.add_failure(f"{name}: {path.replace(one['id'], 'ID')} got {status}")
            guest = Guest(env, "both", name="boss")
            await guest.pc.setLocalDescription(await guest.pc.createOffer())
            sdp = guest.pc.localDescription.sdp
            with contextlib.suppress(httpx.TimeoutException):
                response = await client.post(
                    "/session", params={"portrait": one["id"]}, content=sdp, headers=SDP_HEADERS, timeout=8
                )
                steps.append(f"session {response.status_code}")
                if response.status_code == 201:
                    await asyncio.sleep(0.2)
                    await client.delete(response.headers["location"])
            await guest.leave()
            await client.delete(f"/identities/{one['id']}")
    return steps


@attempt(
    "people.import.deep",
    "show an imported character whose quality is nested 900 deep",
    processes=1,
    alone=True,
    short=True,
)
async def import_deep(env: Environment) -> str:
    data = await exported_noor(env)
    path = env.folder / "deep.character"

    def change(manifest: dict[str, Any]) -> None:
        manifest["character"]["name"] = "Deep"
        manifest["character"]["quality"] = {"deep": nested(900)}

    path.write_bytes(resigned(data, change))
    code, out = await identity_command(env, "import", str(path))
    if code == -1:
        env.add_failure(f"import: {out[:100]}")
    guest, outcome = Guest(env, "both", name="boss"), "not shown"
    async with env.http("boss") as client:
        found = [one["id"] for one in (await client.get("/identities")).json()["identities"] if one["name"] == "Deep"]
        if found:
            await guest.pc.setLocalDescription(await guest.pc.createOffer())
            try:
                response = await client.post(
                    "/session",
                    params={"portrait": found[0]},
                    content=guest.pc.localDescription.sdp,
                    headers=SDP_HEADERS,
                )
                outcome = f"session {response.status_code}"
                if response.status_code == 201:
                    guest.location = response.headers["location"]
                    await guest.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
                    await asyncio.sleep(4)
            except httpx.TimeoutException:
                env.add_failure("the session got no answer")
            await guest.leave()
    await check_new_session(env)
    return f"import {code}: {out.strip()[:60]}; {outcome}"


@attempt("people.import.odd", "imported records with one invalid value", alone=True)
async def import_odd(env: Environment) -> str:
    data = await exported_noor(env)

    def put(*place: str, value: Any) -> Callable[[dict[str, Any]], None]:
        def change(manifest: dict[str, Any]) -> None:
            manifest["character"]["name"] = "Odd"
            at = manifest
            for one in place[:-1]:
                at = at[one]
            at[place[-1]] = value

        return change

    who = "character"
    changes = {
        "quality is a list": put(who, "quality", value=[1]),
        "quality nested 200": put(who, "quality", value={"a": nested(200)}),
        "quality huge": put(who, "quality", value={str(k): "x" * 100 for k in range(5000)}),
        "quality of 1e308": put(who, "quality", value={"score": 1e308}),
        "created NaN": put(who, "created", value=float("nan")),
        "created 1e308": put(who, "created", value=1e308),
        "created text": put(who, "created", value="soon"),
        "consent at Infinity": put(who, "consent", "at", value=float("inf")),
        "consent by escape": put(who, "consent", "by", value="\x1b[31mred"),
        "consent escape": put(who, "consent", "statement", value="I agree \x1b]0;owned\x07 to it"),
        "name surrogate": put(who, "name", value="a\ud800"),
        "name marks": put(who, "name", value="a\u202ebc"),
        "description escape": put(who, "description", value="\x1b[2J\x1b[H"),
        "description surrogate": put(who, "description", value="x\udfff"),
        "tags text": put(who, "tags", value="abc"),
        "tags numbers": put(who, "tags", value=[1, 2]),
        "tags escape": put(who, "tags", value=["\x1b[31m"]),
        "protected text": put(who, "protected", value="no"),
        "style": put(who, "style", value="\x1b"),
        "settings text": put(who, "settings", value="x"),
        "settings deep": put(who, "settings", value={"expression": {"gains": nested(900)}}),
        "settings keep NaN": put(who, "settings", value={"keep": float("nan")}),
        "id path": put(who, "id", value="../../x"),
        "version NaN": put("version", value=float("nan")),
        "version huge": put("version", value=10**400),
        "version text": put("version", value="1"),
        "z_id NaN": put("numbers", "z_id", value=[float("nan")] * 512),
        "likeness huge": put("numbers", "likeness", value=[1e308] * 128),
        "likeness zero": put("numbers", "likeness", value=[0.0] * 128),
        "shape nested": put("numbers", "shape", value=[[1.0]] * 60),
        "mood text": put("numbers", "mood", value=["x"] * 45),
        "files deep": put("files", value=nested(900)),
        "files none": put("files", value={}),
    }
    raws: dict[str, Callable[[str], str]] = {
        "3,000 digits": lambda text: text.replace('"created": ', '"created": ' + "9" * 3000),
        "5,000 digits in quality": lambda text: text.replace('"quality": {', '"quality": {"x": ' + "9" * 5000 + ", "),
        "JSON 100,000 deep": lambda text: "[" * 100_000,
        "two names": lambda text: text.replace('"name": ', '"name": "Other", "name": '),
    }
    plan = [(name, resigned(data, change)) for name, change in changes.items()]
    plan += [(name, resigned(data, put(who, "owner", value="x"), raw)) for name, raw in raws.items()]
    swaps = {
        "a source that is no picture": {"source-0": b"no picture"},
        "an empty source": {"source-0": b""},
        "a source that is a decompression_bomb": {"source-0": decompression_bomb(50_000)},
        "a source of another name": {"source-../../x": b"x"},
        "a source 7": {"source-7": b"x"},
        "a source of no person": {"source-0": as_jpeg(np.zeros((300, 300, 3), np.uint8))},
    }
    plan += [(name, resigned(data, put(who, "owner", value="x"), swap=swap)) for name, swap in swaps.items()]
    accepted = []
    for name, content in plan:
        path = env.folder / "odd.character"
        path.write_bytes(content)
        code, out = await identity_command(env, "import", str(path))
        if code == -1:
            env.add_failure(f"import of {name}: {out[-160:]}")
        if code == 0:
            accepted.append(name)
            if name not in ACCEPTED_IMPORTS:
                env.add_failure(f"the import accepted {name}")
            for after in (("list",), ("show", "Odd"), ("audit",), ("check",)):
                number, text = await identity_command(env, *after)
                if number == -1:
                    env.add_failure(f"identity {after[0]} after {name}: {text[-120:]}")
                if unprintable_characters(text):
                    env.add_failure(f"identity {after[0]} after {name} prints {unprintable_characters(text)}")
            await show_and_remove(env, name)
    await check_new_session(env)
    return f"{len(plan)} tried, accepted: {', '.join(accepted)}"
