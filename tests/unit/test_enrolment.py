"""Enrolment of characters: required fields, refusals, and what is stored."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from avatar_stream.cli.main import main
from avatar_stream.errors import BadInput, BadPicture, Forbidden
from avatar_stream.face import geometry
from avatar_stream.face.tracker import landmarks_of_still
from avatar_stream.identity import enrol as module
from avatar_stream.identity.attributes import attributes_of, claimed_attributes
from avatar_stream.identity.card import identity_card
from avatar_stream.identity.enrol import (
    Enrolled,
    as_jpeg,
    described,
    enrol,
    likeness_of,
    pack_portrait,
    portrait_of,
    unpack_portrait,
)
from avatar_stream.identity.library import SAMPLES, Library, sample_pictures
from avatar_stream.identity.likeness import likeness_distance
from avatar_stream.identity.picture_quality import assess_portrait
from avatar_stream.identity.store import Store
from avatar_stream.identity.style import STYLES, styled
from avatar_stream.media.files import Clip
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.background import checked_background
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.runtime.networks import Networks
from avatar_stream.server.access import Access, make_token, parse_tokens
from avatar_stream.server.http.app import create_app
from avatar_stream.settings import Settings

pytestmark = pytest.mark.slow

CONSENT = "An average of two dozen people: nobody is shown"
FELIX, NOOR, SAMUEL = (sample_pictures()[name].read_bytes() for name in ("felix", "noor", "samuel"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "library")
    yield made
    made.close()


def other_picture(data: bytes) -> bytes:
    """The same person's picture in other light, tilted and slightly nearer."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 4, 1.06)
    picture = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return bytes(cv2.imencode(".jpg", np.clip(picture * 0.85 + 12, 0, 255).astype(np.uint8))[1])


def enrol_pictures(store: Store, *pictures: bytes, name: str = "Felix", **more: Any) -> Enrolled:
    return enrol(store, pictures or (FELIX,), **({"name": name, "consent": CONSENT, "owner": "me"} | more))


def test_one_picture_becomes_a_character(store: Store) -> None:
    done = enrol_pictures(store, tags=("grey suit",), refer=Networks.shared().refer)
    found = store.get(done.character.id)
    assert found.z_id.shape == (512,)
    assert np.linalg.norm(found.z_id) == pytest.approx(1, abs=1e-3)
    assert found.likeness.shape == (128,)
    assert found.mood.shape == (45,)
    assert found.consent.statement == CONSENT
    assert 0.9 < found.quality["score"] <= 1
    assert store.uses()[0].action == "add"


def test_several_pictures_make_one_character(store: Store) -> None:
    done = enrol_pictures(store, other_picture(FELIX), FELIX)
    assert len(done.qualities) == 2
    shown = done.character.file("source 0")
    assert shown is not None
    assert store.read(shown) == (other_picture(FELIX), FELIX)[done.shown]


def test_a_portrait_with_a_closed_mouth_gets_teeth_from_another_picture(store: Store) -> None:
    """Felix enrols two pictures: the sample, and one rendered with an open mouth."""
    clip = Clip(SAMPLES / "driver.mp4")
    driver = [picture for _, picture in islice(clip.frames(), 0, 140, 2)]
    clip.close()
    avatar = Avatar(prepare(read_picture(FELIX), 512), Networks.shared())
    shown = [avatar(picture, 2 * k / 25) for k, picture in enumerate(driver)]
    avatar.close()
    laughing = as_jpeg(shown[67], 95)
    character = enrol_pictures(store, laughing, FELIX).character
    portrait = portrait_of(store, store.get(character.id), 256)
    assert portrait.teeth is not None
    assert geometry.lip_gaps(portrait.teeth[1]).max() > 0.1
    assert portrait.asleep is None
    # A picture with closed eyes and a turned head also gives lids and cheeks.
    faces = [landmarks_of_still(picture) for picture in shown]
    opened = [1.0 if face is None else max(geometry.eye_openings(face)) for face in faces]
    yaws = [0.0 if face is None else geometry.euler_degrees(geometry.head_pose(face).rotation)[1] for face in faces]
    pictures = [as_jpeg(shown[k], 95) for k in (int(np.argmin(opened)), int(np.argmax(yaws)), int(np.argmin(yaws)))]
    many = portrait_of(store, enrol_pictures(store, FELIX, *pictures, name="Many").character, 256)
    assert many.asleep is not None
    assert max(geometry.eye_openings(many.asleep[1])) < 0.12
    assert many.turned
    kept = unpack_portrait(pack_portrait(many))
    assert len(kept.turned) == len(many.turned)
    assert kept.asleep is not None
    again = portrait_of(store, store.get(character.id), 256)
    assert again.teeth is not None
    assert np.array_equal(again.teeth[0], portrait.teeth[0])
    # With one picture the teeth are generic.
    alone = portrait_of(store, enrol_pictures(store, name="Alone").character, 256)
    assert alone.teeth is alone.asleep is None
    assert alone.turned == ()


def test_pictures_of_two_people_are_refused(store: Store) -> None:
    with pytest.raises(BadPicture, match="pictures 1 and 2 do not look like one person"):
        enrol_pictures(store, FELIX, NOOR)
    assert store.characters() == []


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"consent": ""}, "with what right"),
        ({"name": ""}, "a name must have"),
        ({"style": "cubism"}, "no style"),
        ({"tags": ["x" * 99]}, "a tag must have"),
    ],
)
def test_missing_and_invalid_fields_are_reported(store: Store, more: dict[str, Any], word: str) -> None:
    with pytest.raises(BadInput, match=word):
        enrol_pictures(store, **more)


def test_an_error_names_the_number_of_the_picture(store: Store) -> None:
    with pytest.raises(BadPicture, match="picture 2 of 2"):
        enrol_pictures(store, FELIX, b"no picture")
    with pytest.raises(BadInput, match="one to 5"):
        enrol_pictures(store, *[FELIX] * 6)


def test_a_protected_face_cannot_be_enrolled_by_others(store: Store) -> None:
    mine = enrol_pictures(store, protected=True).character
    with pytest.raises(Forbidden, match="protected"):
        enrol_pictures(store, other_picture(FELIX), owner="them", name="Bo")
    assert [line.action for line in store.uses()] == ["refused", "add"]
    assert store.uses()[0].character == mine.id
    enrol_pictures(store, other_picture(FELIX), name="Felix again")
    enrol_pictures(store, NOOR, owner="them", name="Noor")
    library = Library(size=256, uploads=4, store=store)
    with pytest.raises(Forbidden):
        library.add(FELIX, owner="them")
    assert library.add(FELIX, owner="me")


def test_a_portrait_is_prepared_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    key = enrol_pictures(store).character.id
    first = portrait_of(store, store.get(key), 256, square=True)
    monkeypatch.setattr(module, "prepare", lambda *given, **named: pytest.fail("prepared again"))
    again = portrait_of(store, store.get(key), 256, square=True)
    assert np.array_equal(again.picture, first.picture)
    assert np.array_equal(again.landmarks, first.landmarks)


def test_a_packed_portrait_equals_the_original(tmp_path: Path) -> None:
    portrait = prepare(read_picture(NOOR), 256)
    found = unpack_portrait(pack_portrait(portrait))
    for name in ("picture", "plate", "matte", "landmarks", "box"):
        assert np.array_equal(getattr(found, name), getattr(portrait, name))


@pytest.mark.parametrize("style", STYLES)
def test_a_style_changes_the_picture_and_keeps_the_identity(style: str) -> None:
    portrait = prepare(read_picture(SAMUEL), 256, square=True)
    shown = styled(portrait, style)
    assert np.array_equal(shown.landmarks, portrait.landmarks)
    assert shown.picture.shape == portrait.picture.shape
    assert np.abs(shown.picture.astype(int) - portrait.picture).mean() > 5
    own, other = likeness_of(shown), likeness_of(prepare(read_picture(NOOR), 256, square=True))
    assert likeness_distance(likeness_of(portrait), own) < likeness_distance(likeness_of(portrait), other)


def test_a_character_in_a_style(store: Store) -> None:
    done = enrol_pictures(store, style="ink").character
    shown = portrait_of(store, store.get(done.id), 256)
    assert np.ptp(shown.picture.astype(int), axis=2).max() < 60  # the ink style is nearly grey
    assert done.quality["style_distance"] > 0


def test_poor_pictures_get_advice() -> None:
    soft = cv2.GaussianBlur(read_picture(FELIX), (0, 0), 6)
    assert any("soft" in sentence for sentence in assess_portrait(prepare(soft.astype(np.uint8), 512)).advice)
    assert assess_portrait(prepare(read_picture(FELIX), 512)).advice == ()


def test_attributes_of_a_face_are_measured() -> None:
    seen = attributes_of(prepare(read_picture(FELIX), 384))
    assert seen == {"glasses": False, "smile": seen["smile"], "teeth": False}


@pytest.mark.parametrize(
    ("words", "attributes"),
    [
        ("a man with glasses", {"glasses": True}),
        ("no glasses, smiling", {"glasses": False, "smile": True}),
        ("someone who wears no thick glasses", {"glasses": False}),
        ("a serious lady", {"smile": False}),
        ("不戴眼镜、微笑", {"glasses": False, "smile": True}),
        ("戴眼镜的人", {"glasses": True}),
        ("a young woman", {}),
        ("", {}),
    ],
)
def test_attributes_are_parsed_from_a_description(words: str, attributes: dict[str, bool]) -> None:
    assert claimed_attributes(words) == attributes


def test_a_description_is_compared_with_the_picture(store: Store) -> None:
    done = enrol_pictures(store, description="a young woman with glasses").character
    assert done.quality["description"] == ["the description says glasses, the picture shows none"]
    assert done.quality["unchecked"] == ["age", "sex"]
    assert enrol_pictures(store, name="Two", description="no glasses").character.quality["description"] == []


def test_characters_are_found_by_description(store: Store) -> None:
    felix = enrol_pictures(store, description="a man of about forty, grey suit").character
    noor = enrol_pictures(store, NOOR, name="Noor", description="long dark hair", tags=("teacher",)).character
    for words, wanted in (
        ("the man in the grey suit", felix),
        ("a teacher with long hair", noor),
        ("long hair and glasses", None),
        ("an astronaut", None),
        ("noor", noor),
    ):
        found = described(store, words)
        assert (found and found.id) == (wanted and wanted.id), words


def test_a_card_shows_the_character(store: Store) -> None:
    character = enrol_pictures(
        store, tags=("a",) * 1, name="A name that is far too long for one line of a card"
    ).character
    card = identity_card(character, prepare(read_picture(FELIX), 256).picture)
    assert card.shape == (420, 860, 3)
    assert (card[60:340, 40:340].std()) > 20


def test_the_identity_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = ("--library", str(tmp_path / "library"))

    def run(*words: str) -> str:
        assert main(["identity", *words, *library]) == 0
        return capsys.readouterr().out

    picture = tmp_path / "felix.jpg"
    picture.write_bytes(FELIX)
    assert "is enrolled as c-" in run("add", str(picture), "--name", "Felix", "--consent", CONSENT, "--tag", "suit")
    assert "Felix" in run("list")
    assert json.loads(run("list", "suit", "--json"))[0]["name"] == "Felix"
    assert "Felix" in run("find", "the one in the suit")
    assert "no character fits" in run("find", "an astronaut")
    output = run("show", "felix", "-o", str(tmp_path / "card.png"))
    assert re.search(r"enrolled on \d{1,2} \w+ \d{4} and belongs to", output)
    assert f'"{CONSENT}", said by' in output
    assert "Tags: suit." in output
    assert f"The identity card is in {tmp_path / 'card.png'}." in output
    assert not re.search(r"[{}\[\]]|\d{9}", output)  # neither JSON nor seconds since 1970
    assert cv2.imread(str(tmp_path / "card.png")) is not None
    run("rename", "Felix", "Felix the second")
    assert "signed by" in run("export", "Felix the second", "-o", str(tmp_path / "felix.character"))
    taken = ("import", str(tmp_path / "felix.character"))
    assert main(["identity", *taken, *library]) == 2
    assert "choose another name, with --name" in capsys.readouterr().err
    assert "Felix the third was imported as c-" in run(*taken, "--name", "Felix the third")
    assert run("list").count("Felix the") == 2
    assert main(["identity", *taken, "--name", "\x1b", *library]) == 2
    capsys.readouterr()
    run("remove", "Felix the third")
    assert "with all pictures" in run("remove", "felix the second")
    assert "was imported as c-" in run("import", str(tmp_path / "felix.character"))
    assert "import" not in run("list")
    assert "add" in run("audit")
    assert "no damage found" in run("check")
    for wrong in (
        ("add", str(picture), "--name", "Felix the second", "--consent", CONSENT),
        ("add", "none.jpg", "--name", "x", "--consent", CONSENT),
        ("show", "nobody"),
        ("show", "felix the second", "-o", "card.jpg"),
        ("import", str(picture)),
    ):
        assert main(["identity", *wrong, *library]) == 2
        output = capsys.readouterr().err
        assert output.count("\n") <= 2, output
        assert "avatar-stream: " in output


def test_a_character_is_rendered_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from avatar_stream.identity.find_portrait import find_portrait

    store = Store(tmp_path)
    enrol_pictures(store)
    portrait = find_portrait("felix", 256, library=tmp_path, use="render")
    assert isinstance(portrait, Portrait)
    assert find_portrait("Felix", 256, library=tmp_path, use="render").picture.shape == portrait.picture.shape
    assert store.uses()[0].detail == "render"
    store.close()
    with pytest.raises(BadPicture, match="no sample"):
        find_portrait("nobody", 256, library=tmp_path, use="render")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(library=str(tmp_path / "library"), size=256), None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as made:
        yield made


async def test_enrolment_over_http(client: httpx.AsyncClient) -> None:
    upload = (await client.post("/identities", content=FELIX)).json()["id"]
    body = {"pictures": [upload], "name": "Felix", "consent": CONSENT, "style": "film"}
    answer = await client.post("/identities", json=body)
    assert answer.status_code == 201
    key = answer.json()["id"]
    assert answer.headers["location"] == f"/identities/{key}"
    listed = (await client.get("/identities")).json()
    assert listed["enrolment"]
    assert listed["identities"][0] == {"id": key, "name": "Felix", "sample": False, "style": "film", "tags": []}
    assert (await client.get(f"/identities/{key}")).content.startswith(b"\xff\xd8")
    assert (await client.get(f"/identities/{key}/card")).content.startswith(b"\x89PNG")
    settings = {"background": "blur", "keep": 0.5, "expression": {"hold": ["smile"]}}
    changed = await client.patch(f"/identities/{key}", json={"name": "F", "settings": settings})
    assert changed.json()["name"] == "F"
    assert changed.json()["settings"]["expression"]["hold"] == ["smile"]
    assert (await client.delete(f"/identities/{key}")).status_code == 204
    assert (await client.delete(f"/identities/{upload}")).status_code == 204
    for gone in (key, upload):
        assert (await client.get(f"/identities/{gone}")).status_code == 404


async def test_a_background_over_http(client: httpx.AsyncClient) -> None:
    key = (await client.post("/backgrounds", content=NOOR)).json()["id"]
    assert checked_background(key) == key
    assert (await client.post("/backgrounds", content=b"no picture")).status_code == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"pictures": ["u-nothing"], "name": "x", "consent": CONSENT}, 404),
        ({"pictures": "u", "name": "x", "consent": CONSENT}, 400),
        ({"pictures": [], "name": "x", "consent": CONSENT}, 400),
        ({"pictures": ["u-nothing"], "name": 3, "consent": CONSENT}, 400),
    ],
)
async def test_bad_enrolments_over_http(client: httpx.AsyncClient, body: Any, status: int) -> None:
    answer = await client.post("/identities", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"settings": {"beard": 1}}, {"settings": {"keep": 2}}, {"settings": []}, {"name": ""},
        {"settings": {"background": "sky"}}, {"settings": {"background": "b-" + "x" * 16}},
        {"settings": {"expression": {"hold": 1}}},
    ],
)  # fmt: skip
async def test_bad_changes_over_http(client: httpx.AsyncClient, body: Any) -> None:
    upload = (await client.post("/identities", content=FELIX)).json()["id"]
    enrolment = {"pictures": [upload], "name": "Felix", "consent": CONSENT}
    key = (await client.post("/identities", json=enrolment)).json()["id"]
    assert (await client.patch(f"/identities/{key}", json=body)).status_code == 400


async def test_characters_belong_to_their_owners(tmp_path: Path) -> None:
    tokens = {name: make_token(name, ["publish", "view"]) for name in ("ana", "bo")}
    access = Access(parse_tokens("\n".join(line for _, line in tokens.values())))
    app = create_app(Settings(library=str(tmp_path), size=256, characters_per_owner=1), None, access)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as client:
        ana, bo = ({"Authorization": f"Bearer {token}"} for token, _ in tokens.values())
        upload = (await client.post("/identities", content=FELIX, headers=ana)).json()["id"]
        body = {"pictures": [upload], "name": "Felix", "consent": CONSENT}
        key = (await client.post("/identities", json=body, headers=ana)).json()["id"]
        names = [[one["id"] for one in (await client.get("/identities", headers=who)).json()["identities"]]
                 for who in (ana, bo, {})]  # fmt: skip
        assert [key in found for found in names] == [True, False, False]
        for method, path in (("PATCH", ""), ("DELETE", ""), ("GET", "/card")):
            answer = await client.request(method, f"/identities/{key}{path}", json={"name": "x"}, headers=bo)
            assert answer.status_code == 404
        assert (await client.post("/identities", json=body | {"name": "Again"}, headers=ana)).status_code == 400
        assert (await client.post("/identities", json=body)).status_code == 401


async def test_a_server_without_a_library_refuses_enrolments() -> None:
    app = create_app(Settings(size=256), None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as client:
        assert not (await client.get("/identities")).json()["enrolment"]
        body = {"pictures": ["u-1"], "name": "x", "consent": CONSENT}
        answer = await client.post("/identities", json=body)
        assert answer.status_code == 404
