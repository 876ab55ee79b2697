"""What the documents tell people to type works."""

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

from avatar_stream.cli import _parser
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip, Recorder
from avatar_stream.rigs.files import MotionWriter

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
AVATAR_STREAM = [sys.executable, "-m", "avatar_stream.cli"]
COMMAND = re.compile(r"(?:^|`)((?:\.venv/bin/)?avatar-stream [^`\n|]+)(?:`|$)", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """(page, command) of every whole command in the documents."""
    joined = {str(page.relative_to(ROOT)): page.read_text().replace("\\\n", " ") for page in PAGES}
    return [
        (name, found.strip()) for name, text in joined.items() for found in COMMAND.findall(text) if "…" not in found
    ]


def test_there_are_commands_to_check() -> None:
    said = {command.split()[1] for _, command in commands()}
    assert {"serve", "render", "camera", "record-motion", "bench", "doctor"} <= said


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_documented_command_is_understood(page: str, command: str) -> None:
    words = shlex.split(command.split("#")[0])[1:]
    try:
        _parser().parse_args(words)
    except SystemExit as error:
        if error.code:  # --help ends with 0
            pytest.fail(f"{page}: {command} ends with status {error.code}")


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the documents speak of, short ones."""
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
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*key, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    (folder / "tokens.txt").write_text("")
    return folder


def run_for_a_moment(words: list[str], folder: Path) -> str:
    """A server, started as documented, until it says where it is; what it said."""
    process = subprocess.Popen(
        [*AVATAR_STREAM, *words, "--port", "0", "--engine", "warp"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if re.search(r"https?://\S+:\d+", line):
            break
    process.terminate()
    assert process.wait(20) in (0, 143, -signal.SIGTERM), said
    return said


# One with --server needs the server that it names: tests/webrtc/test_client.py runs it against one.
@pytest.mark.parametrize(
    "command", sorted({command.split("#")[0].strip() for _, command in commands() if "--server" not in command})
)
def test_a_documented_command_runs(command: str, desk: Path) -> None:
    """As it is written, but for what a test has to add: a port, a video in place of a webcam, an end."""
    words = shlex.split(command)[1:]
    if words[0] == "serve" and "--help" not in words:
        if "--tokens" in words:
            token = [*AVATAR_STREAM, "token", "me", "--file", words[words.index("--tokens") + 1]]
            subprocess.run(token, cwd=desk, check=False, capture_output=True)
        assert "http" in run_for_a_moment(words, desk)
        return
    if words[0] == "camera" and "--list" not in words:
        words += ["--no-device", "--seconds", "0.5"]
        words += [] if "--motion-port" in words else ["--camera", "me.mp4"]
    done = subprocess.run(
        [*AVATAR_STREAM, *words], cwd=desk, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scene_collection_leads_to_this_servers_pages() -> None:
    scenes = json.loads((ROOT / "docs" / "obs" / "avatar-stream.json").read_text())
    sources = {source["name"]: source for source in scenes["sources"]}
    assert scenes["current_scene"] in sources
    assert [scene["name"] for scene in scenes["scene_order"]] == [scenes["current_scene"]]
    for item in sources[scenes["current_scene"]]["settings"]["items"]:
        assert item["name"] in sources
    browser = next(source for source in scenes["sources"] if source["id"] == "browser_source")
    assert browser["settings"]["url"] == "http://localhost:8080/view/me?transparent"
    assert "?session=me" in (ROOT / "docs" / "obs.md").read_text()
