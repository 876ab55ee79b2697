"""Access to uploads, backgrounds and characters over HTTP is limited to their owners; disk errors over HTTP."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from avatar_stream.errors import UnknownPortrait
from avatar_stream.identity.library import Library, sample_pictures
from avatar_stream.server.access import Access, make_token, parse_tokens
from avatar_stream.server.http.app import create_app
from avatar_stream.settings import Settings

pytestmark = pytest.mark.slow

CONSENT = "An average of two dozen people: nobody is shown"
FELIX_JPEG = sample_pictures()["felix"].read_bytes()
SCOPES_BY_NAME = {
    "ana": ["publish", "view"],
    "bo": ["publish", "view"],
    "eve": ["view"],
    "root": ["admin", "publish"],
}


class TokenServer:
    """A server with tokens; ``headers`` gives each name's headers, "" for none."""

    def __init__(self, folder: Path) -> None:
        tokens = {name: make_token(name, scopes) for name, scopes in SCOPES_BY_NAME.items()}
        self.headers: dict[str, dict[str, str]] = {
            name: {"Authorization": f"Bearer {token}"} for name, (token, _) in tokens.items()
        } | {"": {}}
        self.access = Access(parse_tokens("\n".join(line for _, line in tokens.values())))
        self.app: Any = create_app(Settings(library=str(folder), size=128, uploads=3), None, self.access)
        transport = httpx.ASGITransport(self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")

    async def ask(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.client.request(method, path, headers=self.headers[who], **more)

    async def upload(self, who: str) -> str:
        return str((await self.ask(who, "POST", "/identities", content=FELIX_JPEG)).json()["id"])


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[TokenServer]:
    made = TokenServer(tmp_path / "library")
    yield made
    await made.client.aclose()


async def test_an_upload_is_visible_to_its_owner_only(guarded: TokenServer) -> None:
    upload = await guarded.upload("ana")
    body = {"pictures": [upload], "name": "Felix", "consent": CONSENT}
    missing = (await guarded.ask("bo", "GET", "/identities/u-nothing")).json()
    assert (await guarded.ask("bo", "POST", "/identities", json=body)).status_code == 404
    for who, status in (("bo", 404), ("eve", 404), ("", 401), ("ana", 200), ("root", 200)):
        answer = await guarded.ask(who, "GET", f"/identities/{upload}")
        assert answer.status_code == status, who
        if who == "bo":
            assert answer.json() == missing  # the same as for an unknown id
    assert (await guarded.ask("bo", "DELETE", f"/identities/{upload}")).status_code == 404
    assert (await guarded.ask("ana", "GET", f"/identities/{upload}")).status_code == 200
    assert (await guarded.ask("ana", "POST", "/identities", json=body)).status_code == 201
    assert (await guarded.ask("ana", "DELETE", f"/identities/{upload}")).status_code == 204
    assert (await guarded.ask("ana", "GET", f"/identities/{upload}")).status_code == 404


async def test_a_characters_picture_is_visible_to_its_owner_only(guarded: TokenServer) -> None:
    body = {"pictures": [await guarded.upload("ana")], "name": "Felix", "consent": CONSENT}
    key = (await guarded.ask("ana", "POST", "/identities", json=body)).json()["id"]
    for who, status in (("bo", 404), ("eve", 404), ("", 401), ("ana", 200), ("root", 200)):
        answer = await guarded.ask(who, "GET", f"/identities/{key}")
        assert answer.status_code == status, who
    # A browser must not show a cached copy to the next token.
    assert "Authorization" in (await guarded.ask("ana", "GET", f"/identities/{key}")).headers["vary"]
    # The samples are public.
    assert (await guarded.ask("", "GET", "/identities/noor")).status_code == 200


async def test_a_link_gives_access_to_its_sessions_portrait(guarded: TokenServer) -> None:
    upload, other = await guarded.upload("ana"), await guarded.upload("ana")

    class Showing:
        instance_id = "first"

        def status(self) -> dict[str, Any]:
            return {"portrait": upload}

    server = guarded.app.state.server
    server.sessions.by_id["studio"] = Showing()
    link = {"Authorization": f"Bearer {guarded.access.link('studio', 'first', 4e9)}"}
    elsewhere = {"Authorization": f"Bearer {guarded.access.link('studio', 'second', 4e9)}"}
    for path, headers, status in ((upload, link, 200), (other, link, 404), (upload, elsewhere, 404)):
        assert (await guarded.client.get(f"/identities/{path}", headers=headers)).status_code == status
    del server.sessions.by_id["studio"]
    assert (await guarded.client.get(f"/identities/{upload}", headers=link)).status_code == 404


async def test_uploads_of_one_owner_do_not_displace_anothers(guarded: TokenServer) -> None:
    kept = await guarded.upload("ana")
    sent = [await guarded.upload("bo") for _ in range(5)]
    found = [(await guarded.ask("bo", "GET", f"/identities/{one}")).status_code for one in sent]
    assert found == [404, 404, 404, 200, 200]
    assert (await guarded.ask("ana", "GET", f"/identities/{kept}")).status_code == 200


def test_a_background_is_usable_by_its_owner_only() -> None:
    library = Library(size=128, uploads=2)
    key = library.add_background(FELIX_JPEG, "ana")
    assert library.background(key, "ana").shape == library.background(key).shape
    with pytest.raises(UnknownPortrait):
        library.background(key, "bo")


async def test_without_tokens_uploads_and_characters_are_accessible(tmp_path: Path) -> None:
    app = create_app(Settings(library=str(tmp_path / "library"), size=128), None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as client:
        upload = (await client.post("/identities", content=FELIX_JPEG)).json()["id"]
        body = {"pictures": [upload], "name": "Felix", "consent": CONSENT}
        key = (await client.post("/identities", json=body)).json()["id"]
        for one in (upload, key, "noor"):
            assert (await client.get(f"/identities/{one}")).status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {"protected": "true"}, {"protected": 1}, {"name": "\x1b[2J"}, {"name": "\ud800"},
        {"consent": "I agree \u202e it"}, {"tags": ["\x07"]}, {"description": "\x9b"}, {"beard": 1},
        {"\ud800": 1}, {"style": "\ud800"},
    ],
)  # fmt: skip
async def test_a_refused_enrolment_leaves_no_files(tmp_path: Path, more: dict[str, Any]) -> None:
    app = create_app(Settings(library=str(tmp_path / "library"), size=128), None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as client:
        upload = (await client.post("/identities", content=FELIX_JPEG)).json()["id"]
        body = json.dumps({"pictures": [upload], "name": "Felix", "consent": CONSENT} | more)
        answer = await client.post("/identities", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["error"].isprintable()
        assert [one for one in (await client.get("/identities")).json()["identities"] if not one["sample"]] == []
    assert not [place for place in (tmp_path / "library" / "files").rglob("*") if place.is_file()]


async def test_no_201_for_a_character_that_is_not_on_disk(tmp_path: Path) -> None:
    app = create_app(Settings(library=str(tmp_path / "library"), size=128), None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as client:
        upload = (await client.post("/identities", content=FELIX_JPEG)).json()["id"]
        (tmp_path / "library" / "library.db").unlink()
        body = {"pictures": [upload], "name": "Felix", "consent": CONSENT}
        answer = await client.post("/identities", json=body)
        assert answer.status_code == 503
        assert "deleted while it was in use" in answer.json()["error"]
        assert not (tmp_path / "library" / "library.db").exists()
        # Requests that need no library still work.
        assert (await client.get(f"/identities/{upload}")).status_code == 200
        picture = cv2.imdecode(np.frombuffer((await client.get("/identities/noor")).content, np.uint8), 1)
        assert picture is not None
