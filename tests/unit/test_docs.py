"""Commands and links in the documents work."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import pytest

from avatar_stream.cli.main import main, parser
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.identity.enrol import enrol
from avatar_stream.identity.export_import import export_character
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.identity.store import Store
from avatar_stream.media.files import Clip
from avatar_stream.media.recorder import Recorder
from avatar_stream.rigs.files import MotionWriter
from tests.serving import RunningServer
from tests.waiting import TEST_TIMEOUT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
AVATAR_STREAM = [sys.executable, "-m", "avatar_stream.cli"]
COMMAND_PATTERN = re.compile(r"(?:^|`)((?:\.venv/bin/)?avatar-stream [^`\n|]+)(?:`|$)", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """(page, command) of every complete command in the documents."""
    joined = {str(page.relative_to(ROOT)): page.read_text().replace("\\\n", " ") for page in PAGES}
    return [
        (name, found.strip())
        for name, text in joined.items()
        for found in COMMAND_PATTERN.findall(text)
        if "…" not in found
    ]


def test_commands_are_found_in_the_documents() -> None:
    names = {command.split()[1] for _, command in commands()}
    assert {"serve", "render", "camera", "record-motion", "bench", "doctor"} <= names


@pytest.mark.parametrize(("page", "command"), commands())
def test_documented_commands_are_parsed(page: str, command: str) -> None:
    words = shlex.split(command.split("#")[0])[1:]
    try:
        parser().parse_args(words)
    except SystemExit as error:
        if error.code:  # --help exits with 0
            pytest.fail(f"{page}: {command} ends with status {error.code}")


def test_links_between_documents_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with short versions of the files that the documents name."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copy(sample_pictures()["felix"], folder / "portrait.jpg")
    shutil.copy(sample_pictures()["robin"], folder / "me.jpg")
    clip = Clip(SAMPLES / "driver.mp4")
    recorder = Recorder(folder / "me.mp4", clip.rate, (640, 480))
    for _, (_, picture) in zip(range(20), clip.frames(), strict=False):
        recorder.write(picture)
    recorder.close()
    clip.close()
    with wave.open(str(folder / "talk.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000))
    motion = MotionWriter(folder / "me.jsonl", Fraction(25))
    motion.write(ArkitFrame({"jawOpen": 0.3}), 0.0)
    motion.close()
    shutil.copy(folder / "me.mp4", folder / "out.mp4")
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*key, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    (folder / "tokens.txt").write_text("")
    return folder


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with the documents' character, to be copied."""
    folder = tmp_path_factory.mktemp("enrolled") / "library"
    store = Store(folder)
    consent = "An average of two dozen people"
    enrol(store, [sample_pictures()["felix"].read_bytes()], name="Ana", consent=consent, owner="me")
    store.close()
    return folder


def environment_with_ana(words: list[str], desk: Path, enrolled: Path) -> dict[str, str]:
    """The environment of a documented command: a library with Ana, unless the command enrols or imports her."""
    data = desk / "data"
    shutil.rmtree(data, ignore_errors=True)
    library = data / "avatar-stream" / "library"
    if words[:2] != ["identity", "add"]:
        shutil.copytree(enrolled, library)
        store = Store(library)
        ana = store.find("Ana")
        (desk / "ana.character").write_bytes(export_character(store, ana, "me"))
        if words[:2] == ["identity", "import"]:
            store.remove(ana.id, who="me")
        if words[:2] == ["identity", "remove"]:
            store.rename(ana.id, words[2], who="me")
        store.close()
    return os.environ | {"XDG_DATA_HOME": str(data)}


def run_briefly(words: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Start a server as documented and stop it when it is ready; returns its output."""
    flags = [*words[1:], "--port", "0", "--engine", "warp"]
    with RunningServer(*flags, folder=folder, library="", environment=environment) as server:
        server.process.terminate()
        assert server.process.wait(TEST_TIMEOUT) in (0, 143, -signal.SIGTERM), server.output
    return server.output


def short_version(word: str, desk: Path) -> str:
    """Replaces a sample by its short version."""
    if not word.startswith("avatar_stream/samples/"):
        return word
    assert (ROOT / word).is_file()
    return str(desk / ("talk.wav" if word.endswith(".ogg") else "me.mp4"))


# A command with --server needs that server: tests/webrtc/test_client.py runs it.
@pytest.mark.parametrize(
    "command", sorted({command.split("#")[0].strip() for _, command in commands() if "--server" not in command})
)
def test_documented_commands_run(
    command: str,
    desk: Path,
    enrolled: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command runs as written, except for additions: a port, a video instead of a webcam, an earlier end.

    They use the warp alone, which starts at once; other tests cover the networks.
    """
    words = [short_version(word, desk) for word in shlex.split(command)[1:]]
    environment = environment_with_ana(words, desk, enrolled)
    if words[0] == "serve" and "--help" not in words:
        if "--tokens" in words:
            token = [*AVATAR_STREAM, "token", "me", "--file", words[words.index("--tokens") + 1]]
            subprocess.run(token, cwd=desk, check=False, capture_output=True)
        assert "http" in run_briefly(words, desk, environment)
        return
    sooner = {"bench": ["--frames", "30", "--threads", "1"], "engine check": ["--ticks", "20"]}
    words += sooner.get(" ".join(words[:2]), sooner.get(words[0], []))
    if words[0] in ("render", "camera", "bench") and "--engine" not in words:
        words += ["--engine", "warp"]
    if words[0] == "camera" and "--list" not in words:
        words += ["--no-device", "--seconds", "0.5"]
        words += [] if "--motion-port" in words else ["--camera", "me.mp4"]
    # In this process, which has imported everything: forty processes would need two minutes for that.
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDG_DATA_HOME", environment["XDG_DATA_HOME"])
    try:
        status = main(words)
    except SystemExit as end:  # --help
        status = int(end.code or 0)
    captured = capsys.readouterr()
    assert status == 0, captured.out + captured.err


def test_the_obs_scene_collection_is_consistent() -> None:
    scenes = json.loads((ROOT / "docs" / "obs" / "avatar-stream.json").read_text())
    sources = {source["name"]: source for source in scenes["sources"]}
    assert scenes["current_scene"] in sources
    assert [scene["name"] for scene in scenes["scene_order"]] == [scenes["current_scene"]]
    for item in sources[scenes["current_scene"]]["settings"]["items"]:
        assert item["name"] in sources
    browser = next(source for source in scenes["sources"] if source["id"] == "browser_source")
    assert browser["settings"]["url"] == "http://localhost:8080/view/me?transparent"
    assert "?session=me" in (ROOT / "docs" / "obs.md").read_text()
