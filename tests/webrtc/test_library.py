"""Sessions that show uploads and characters: who may use them, and errors if they cannot be read."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from avatar_stream.identity.library import sample_pictures
from tests.webrtc.peers import BOTH_HOSTS, Peer, no_sessions, running
from tests.webrtc.test_strangers import bearer, guarded

pytestmark = pytest.mark.webrtc

FELIX_JPEG = sample_pictures()["felix"].read_bytes()
CONSENT = "An average of two dozen people: nobody is shown"


async def enrol(client: httpx.AsyncClient, name: str, **headers: Any) -> str:
    """Enrol a character; returns its id."""
    upload = (await client.post("/identities", content=FELIX_JPEG, **headers)).json()["id"]
    body = {"pictures": [upload], "name": name, "consent": CONSENT}
    return str((await client.post("/identities", json=body, **headers)).json()["id"])


@BOTH_HOSTS
async def test_only_the_owner_and_viewers_may_get_a_picture(host_settings: dict[str, Any], tmp_path: Path) -> None:
    access, tokens = guarded(ana="publish,view", bo="publish,view")
    ana, bo = bearer(tokens["ana"]), bearer(tokens["bo"])
    async with (
        running(access=access, library=str(tmp_path), **host_settings) as (url, server),
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        shown, other = [await enrol(client, name, headers=ana) for name in ("Shown", "Other")]
        peer = Peer(url, token=tokens["ana"])
        assert (await peer.connect(shown, session="studio")).status_code == 201
        await peer.pictures(3)
        link = (await client.post(f"/links/{peer.key}", headers=ana)).json()["path"].split("#")[1]
        for key, headers, status in (
            (shown, bearer(link), 200), (other, bearer(link), 404), (shown, bo, 404), (shown, {}, 401),
            (shown, ana, 200), (other, ana, 200),
        ):  # fmt: skip
            assert (await client.get(f"/identities/{key}", headers=headers)).status_code == status
        # Another token's session may not show it either, at its start or later.
        thief, again = Peer(url, token=tokens["bo"]), Peer(url, token=tokens["bo"])
        assert (await thief.connect(shown)).status_code == 404
        upload = (await client.post("/identities", content=FELIX_JPEG, headers=ana)).json()["id"]
        background = (await client.post("/backgrounds", content=FELIX_JPEG, headers=ana)).json()["id"]
        assert (await again.connect(upload)).status_code == 404
        honest = Peer(url, token=tokens["bo"])
        assert (await honest.connect()).status_code == 201
        await honest.pictures(1)
        async with websockets.connect(f"{url.replace('http', 'ws')}/control/{honest.key}") as socket:
            await socket.send(json.dumps({"type": "token", "value": tokens["bo"]}))
            for command in (
                {"type": "portrait", "id": upload}, {"type": "portrait", "id": shown},
                {"type": "background", "value": background},
            ):  # fmt: skip
                await socket.send(json.dumps(command))
                reply = await answer(socket)
                assert reply["type"] == "error"
                assert "not on the server" in reply["message"]
        await server.sessions.close()
        await no_sessions(server)
        for one in (peer, thief, again, honest):
            await one.close()


async def answer(socket: Any) -> dict[str, Any]:
    """The next message that is not a status."""
    while True:
        received: dict[str, Any] = json.loads(await socket.recv())
        if received["type"] != "status":
            return received


@BOTH_HOSTS
async def test_an_unreadable_character_is_refused_with_the_reason(
    host_settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        running(library=str(tmp_path), **host_settings) as (url, server),
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        sound, deep, lost = [await enrol(client, name) for name in ("Sound", "Deep", "Lost")]
        with sqlite3.connect(tmp_path / "library.db") as connection:
            connection.execute("UPDATE characters SET quality = ? WHERE id = ?", ("[" * 900 + "]" * 900, deep))
            connection.execute("UPDATE files SET digest = ? WHERE character = ?", ("0" * 64, lost))
        connection.close()
        for key, word in ((deep, "damaged"), (lost, "is missing")):
            peer = Peer(url)
            refused = await peer.connect(key)
            assert refused.status_code == 503
            assert word in refused.json()["error"]
            assert "\n" not in refused.json()["error"]
            await peer.close()
        assert server.sessions.by_id == {}
        # A running session gets an error and goes on; other sessions are not affected.
        peer, other = Peer(url), Peer(url)
        assert (await peer.connect(sound, session="one")).status_code == 201
        assert (await other.connect(session="other")).status_code == 201
        await peer.pictures(2)
        async with websockets.connect(f"{url.replace('http', 'ws')}/control/{peer.key}") as socket:
            for key, word in ((deep, "damaged"), (lost, "is missing"), (sound, "")):
                await socket.send(json.dumps({"type": "portrait", "id": key}))
                reply = await answer(socket)
                assert reply["type"] == ("error" if word else "done")
                assert word in reply.get("message", "")
        await peer.pictures(3)
        await other.pictures(3)
        # If the library is deleted, running sessions go on, and sessions that need it are refused.
        shutil.move(tmp_path / "library.db", tmp_path / "kept.db")
        late = Peer(url)
        refused = await late.connect(sound)
        assert refused.status_code == 503
        assert "deleted while it was in use" in refused.json()["error"]
        await peer.pictures(3)
        sample = Peer(url)
        assert (await sample.connect("noor")).status_code == 201
        await sample.pictures(1)
        await server.sessions.close()
        await no_sessions(server)
        for one in (peer, other, late, sample):
            await one.close()
    assert not [record for record in caplog.records if record.exc_info]
