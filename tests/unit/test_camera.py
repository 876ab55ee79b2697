"""The camera command: input and output devices, faked at their libraries' interfaces, and the loop between them."""

import json
import re
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from avatar_stream.cli.main import main
from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.identity.library import SAMPLES
from avatar_stream.media import camera as devices
from avatar_stream.media.camera import Camera, cameras, find_camera
from avatar_stream.media.virtual_camera import NoDriver, VirtualCamera, fitted
from avatar_stream.pipeline.camera import HOTKEYS_HELP, LocalCamera, Options, Switches
from avatar_stream.rigs.listener import RigListener
from avatar_stream.rigs.vmc import VmcSender
from tests.waiting import TEST_TIMEOUT, wait_until

pytestmark = pytest.mark.slow

DRIVER_CLIP = str(SAMPLES / "driver.mp4")
LISTED_DEVICES = [
    SimpleNamespace(name="/dev/video0", description="Integrated Camera", media_types=["video"]),
    SimpleNamespace(name="/dev/video2", description="USB Webcam", media_types=["video"]),
]


class FakeDevice:
    """pyvirtualcam's camera without a driver."""

    made: "list[FakeDevice]" = []  # noqa: RUF012

    def __init__(self, width: int, height: int, fps: float, *, device: str | None = None) -> None:
        self.device = device or "/dev/video9"
        self.size, self.fps = (width, height), fps
        self.sent: list[np.ndarray] = []  # type: ignore[type-arg]
        self.closed = False
        FakeDevice.made.append(self)

    def send(self, picture: np.ndarray) -> None:  # type: ignore[type-arg]
        assert picture.dtype == np.uint8
        assert picture.shape == (self.size[1], self.size[0], 3)
        assert picture.flags.c_contiguous
        self.sent.append(picture.copy())

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[FakeDevice]:
    import pyvirtualcam

    FakeDevice.made = []
    monkeypatch.setattr(pyvirtualcam, "Camera", FakeDevice)
    return FakeDevice


def test_cameras_are_listed_and_chosen_by_name_or_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(av, "enumerate_input_devices", lambda backend: LISTED_DEVICES)
    monkeypatch.setattr(sys, "platform", "linux")
    assert [one.name for one in cameras()] == ["Integrated Camera", "USB Webcam"]
    for wanted in ("1", "/dev/video2", "usb"):
        assert find_camera(wanted) == "/dev/video2"
    with pytest.raises(BadInput, match="0: Integrated Camera, 1: USB Webcam"):
        find_camera("7")
    assert main(["camera", "--list"]) == 0
    assert "1: USB Webcam" in capsys.readouterr().out
    assert main(["camera", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == "/dev/video0"


@pytest.mark.parametrize(
    ("system", "word"), [("linux", "group video"), ("darwin", "Privacy"), ("win32", "desktop apps")]
)
def test_without_a_camera_the_error_says_what_to_do(system: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "enumerate_input_devices", lambda backend: [])
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(BadInput, match=word):
        find_camera("0")


def test_windows_cameras_are_opened_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [*LISTED_DEVICES, SimpleNamespace(name="Microphone", description="Microphone", media_types=["audio"])]
    monkeypatch.setattr(av, "enumerate_input_devices", lambda backend: listed)
    monkeypatch.setattr(sys, "platform", "win32")
    assert [one.id for one in cameras()] == ["video=/dev/video0", "video=/dev/video2"]


def test_a_camera_is_reopened_after_it_was_unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    # FFmpeg's test device replaces the webcam; it ends after half a second, like an unplugged one.
    monkeypatch.setattr(devices, "BACKENDS", {sys.platform: "lavfi"})
    monkeypatch.setattr(devices, "CAPTURE_OPTIONS", {})
    monkeypatch.setattr(devices, "REOPEN_INTERVAL_SECONDS", 0.05)
    frames: list[av.VideoFrame] = []
    source = Camera("testsrc=size=320x240:rate=30:duration=0.5", frames.append)
    try:
        wait_until(lambda: len(frames) >= 40, "more frames came than half a second holds")
    finally:
        source.close()
    assert (frames[0].width, frames[0].height) == (320, 240)


def test_a_camera_that_cannot_be_opened_is_reported() -> None:
    with pytest.raises(BadInput, match="another program"):
        Camera("/dev/video63", lambda frame: None)
    with pytest.raises(BadInput, match="not a video"):
        Camera(__file__, lambda frame: None)


class Clock:
    """A clock that advances only in ``wait``; replaces ``time`` and a camera's stop event."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def is_set(self) -> bool:
        return self.now > 103


def test_a_file_plays_at_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = Clock(), []
    monkeypatch.setattr(devices, "time", clock)
    source = Camera(DRIVER_CLIP, lambda frame: None)
    source.close()
    monkeypatch.setattr(source, "_stopped", clock)
    monkeypatch.setattr(source, "_on_frame", lambda frame: seen.append((clock.now - 100, frame.time)))
    with av.open(DRIVER_CLIP) as container:
        source._read(container)
    assert len(seen) > 50
    assert all(at == pytest.approx(due - seen[0][1]) for at, due in seen)


@pytest.mark.parametrize(("system", "word"), [("linux", "v4l2loopback"), ("darwin", "OBS 30"), ("win32", "OBS 28")])
def test_without_a_virtual_camera_the_error_says_what_to_install(
    system: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyvirtualcam

    def broken(*given: Any, **named: Any) -> None:
        raise RuntimeError("no device")

    monkeypatch.setattr(pyvirtualcam, "Camera", broken)
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(NoDriver, match=word):
        VirtualCamera((256, 256), 25)


def test_pictures_are_scaled_to_fit_without_cropping() -> None:
    picture = np.full((100, 50, 3), 200, np.uint8)
    shown = fitted(picture, (320, 240))
    assert shown.shape == (240, 320, 3)
    assert (shown[120, 160] == 200).all()


def test_the_command_shows_the_avatar_on_the_virtual_camera(
    device: type[FakeDevice], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = FakeDevice.send

    def until_it_moves(self: FakeDevice, picture: np.ndarray) -> None:  # type: ignore[type-arg]
        send(self, picture)
        if len(self.sent) > 25 and np.abs(picture.astype(int) - self.sent[0]).mean() > 0.5:
            raise KeyboardInterrupt  # as Ctrl+C

    monkeypatch.setattr(FakeDevice, "send", until_it_moves)
    patience = ["--seconds", str(TEST_TIMEOUT)]
    given = ["camera", "noor", "--camera", DRIVER_CLIP, "--engine", "warp", "--size", "256", "--json", *patience]
    assert main(given) == 0
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert report["output"] == "/dev/video9"
    assert report["seconds"] < TEST_TIMEOUT
    assert "the avatar is on /dev/video9" in output.err
    (made,) = device.made
    assert made.closed
    assert report["pictures"] == len(made.sent) - 1


def test_the_camera_command_can_be_driven_by_motion(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sender, stopped = VmcSender(port=port), threading.Event()

    def act() -> None:
        while not stopped.wait(0.03):
            sender.send(ArkitFrame({"jawOpen": 0.5}), 0.0)

    acting = threading.Thread(target=act)
    acting.start()
    given = ["camera", "--no-device", "--engine", "warp", "--size", "256", "--seconds", "2", "--json"]
    try:
        status = main([*given, "--motion-port", str(port)])
    finally:
        stopped.set()
        acting.join()
    assert status == 0
    assert json.loads(capsys.readouterr().out)["pictures"] > 0


class FakeOutput:
    """An output that keeps the pictures it is shown, and presses q when ``enough()`` is true."""

    name = "a test"

    def __init__(self, enough: Callable[[], bool] = lambda: False) -> None:
        self.pictures: list[np.ndarray] = []  # type: ignore[type-arg]
        self.switches: Switches | None = None
        self._enough = enough

    def show(self, picture: np.ndarray) -> None:  # type: ignore[type-arg]
        self.pictures.append(picture)
        if self.switches and self._enough():
            self.switches.press("q")

    def close(self) -> None:
        pass


def test_motion_from_a_rig_moves_the_avatar_and_is_sent_on() -> None:
    listener = RigListener(0)
    made = LocalCamera(
        Options(["noor", "robin"], size=256, seconds=TEST_TIMEOUT), None, rig=VmcSender(port=listener.port)
    )
    lines: list[str] = []

    def moved() -> bool:
        """Whether the avatar has moved and its statistics, which come every two seconds, were printed."""
        changes = [np.abs(shown.pictures[-1].astype(int) - one).mean() for one in shown.pictures[20:]]
        return max(changes, default=0.0) > 0.2 and any("pictures a second" in line for line in lines)

    shown, stopped = FakeOutput(moved), threading.Event()
    shown.switches = made.switches

    def act() -> None:
        while not stopped.wait(0.03):
            made.add_frame(ArkitFrame({"jawOpen": 0.5 + 0.4 * np.sin(len(shown.pictures) / 3)}))

    acting = threading.Thread(target=act)
    acting.start()
    try:
        made.run(shown, lines.append)
    finally:
        stopped.set()
        acting.join()
    assert made.switches.stopped.is_set()  # by the key, not by the time limit
    sent = listener.take(TEST_TIMEOUT)
    listener.close()
    assert sent is not None
    assert sent.shapes["jawOpen"] > 0.05


def test_hotkeys_work() -> None:
    made = LocalCamera(Options(["noor", "robin"], size=256), None)
    shown = FakeOutput()
    running = threading.Thread(target=made.run, args=(shown, lambda line: None))
    source = Camera(DRIVER_CLIP, made.add_frame)
    running.start()

    def more(count: int) -> list[np.ndarray]:  # type: ignore[type-arg]
        """The next pictures."""
        before = len(shown.pictures)
        wait_until(lambda: len(shown.pictures) >= before + count, "more pictures were shown")
        return shown.pictures[before:]

    def differs(one: np.ndarray, other: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.abs(one.astype(int) - other).mean())

    try:
        wait_until(lambda: shown.pictures and differs(*more(2)[:2]) > 0, "the avatar moved")
        (before,) = more(1)[:1]
        made.switches.press("h")
        wait_until(lambda: more(1)[0].max() == 24, "the avatar was hidden")
        made.switches.press("h")
        wait_until(lambda: more(1)[0].max() > 100, "the avatar was shown again")
        made.switches.press("n")
        wait_until(lambda: differs(more(1)[0], before) > 10, "another portrait was shown")
        made.switches.press("p")
        frozen = more(2)[-1]
        made.switches.press("r")
        assert all((picture == frozen).all() for picture in more(20))
        made.switches.press("q")
        running.join(TEST_TIMEOUT)
        assert not running.is_alive()
    finally:
        made.switches.press("q")
        source.close()


def test_hotkeys_are_the_same_on_the_page_and_in_the_terminal() -> None:
    page = (Path(__file__).parents[2] / "client_demo" / "main.js").read_text()
    (listed,) = re.findall(r"const action = \{ (.*?) \}\[event\.key", page)
    on_page = dict(re.findall(r"(\w): \$\('(\w+)'\)", listed))
    in_terminal = dict(one.split(": ") for one in HOTKEYS_HELP.split(", "))
    assert on_page.keys() & in_terminal.keys() == {"r"}
    assert (on_page["r"], in_terminal["r"]) == ("neutral", "recalibrate")


def test_unknown_keys_do_nothing() -> None:
    switches = Switches()
    switches.press("x")
    assert switches == Switches(stopped=switches.stopped, recalibrate=switches.recalibrate)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["nobody", "--camera", DRIVER_CLIP], "no picture nobody"),
        (["portrait.jpg", "--camera", DRIVER_CLIP], "cannot read portrait.jpg: no such file. A sample's name ("),
        (["portrait.jpg", "--camera", DRIVER_CLIP], "noor"),
        (["--camera", DRIVER_CLIP, "--vmc", "localhost:0"], "HOST:PORT"),
        (["--camera", DRIVER_CLIP, "--server", "localhost"], "http://"),
        (
            ["--camera", DRIVER_CLIP, "--server", "http://127.0.0.1:9", "--vmc", "localhost:39539"],
            "leave --server out",
        ),
        (["--preview", "--camera", DRIVER_CLIP], "no window"),
        (["--motion-port", "vmc"], "HOST:PORT"),
    ],
)
def test_invalid_options_give_an_error_of_one_line(
    given: list[str], word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["camera", "--no-device", "--engine", "warp", "--size", "256", "--seconds", "1", *given]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("avatar-stream:")]
    assert len(errors) == 1
    assert word in errors[0]
