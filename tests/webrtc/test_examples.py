"""All examples run."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

from avatar_stream.identity.library import SAMPLES
from avatar_stream.rigs.listener import RigListener
from tests.waiting import TEST_TIMEOUT, within
from tests.webrtc.peers import running

pytestmark = pytest.mark.webrtc
EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PORTRAIT, VIDEO = str(SAMPLES / "robin.jpg"), str(SAMPLES / "driver.mp4")


async def run(name: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await within(process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first second of the sample clip."""
    path = tmp_path_factory.mktemp("clip") / "short.mp4"
    with av.open(VIDEO) as given, av.open(str(path), "w") as taken:
        stream = taken.add_stream("libx264", rate=25)
        for number, frame in enumerate(given.decode(video=0)):
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            if number == 25:
                break
            for packet in stream.encode(frame.reformat(format="yuv420p")):
                taken.mux(packet)
        for packet in stream.encode(None):
            taken.mux(packet)
    return str(path)


def test_every_example_is_run_and_listed() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    text, listed = Path(__file__).read_text(), (EXAMPLES / "README.md").read_text()
    for name in names:
        assert f'run("{name}"' in text
        assert f"`{name}`" in listed


async def test_render_clip(short: str, tmp_path: Path) -> None:
    await run("render_clip.py", PORTRAIT, short, str(tmp_path / "out.mp4"))
    with av.open(str(tmp_path / "out.mp4")) as made:
        assert sum(1 for _ in made.decode(video=0)) == 25


async def test_webcam_loop() -> None:
    output = await run("webcam_loop.py", PORTRAIT, VIDEO, "10")
    assert output.count("256 x 256, face found") >= 9


async def test_motion_to_rig(short: str) -> None:
    listener = RigListener(0)
    running_example = asyncio.create_task(run("motion_to_rig.py", short, "127.0.0.1", str(listener.port)))
    try:
        frame = await asyncio.to_thread(listener.take, TEST_TIMEOUT)
        await running_example
    finally:
        listener.close()
    assert frame is not None
    assert len(frame.shapes) == 52


async def test_remote_avatar() -> None:
    async with running(frame_marks=False) as (url, _):
        output = await run("remote_avatar.py", url, VIDEO, "150")
        assert "picture 149: 256 x 256" in output
        assert "256 x 256, found" in output


def test_the_patch_that_adds_a_control_command_works(tmp_path: Path) -> None:
    root = EXAMPLES.parent
    for name in ("avatar_stream", "client_demo", "tests", "docs", "examples", "pyproject.toml"):
        if (root / name).is_dir():
            # Other processes create and remove __pycache__ meanwhile.
            shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / name, tmp_path / name)
    patch = ["git", "apply", "-C1", str(EXAMPLES / "control_command" / "add-a-command.patch")]
    # The ceiling keeps git from taking the files for part of an outer repository.
    subprocess.run(
        patch, cwd=tmp_path, check=True, env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    )
    tests = ["tests/unit/test_openapi.py", "tests/webrtc/test_loopback.py", "-k", "openapi or schema or frozen"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=5 * TEST_TIMEOUT,  # it runs many tests
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "avatar_stands_still" in (tmp_path / "tests" / "webrtc" / "test_loopback.py").read_text()
