"""Marks of generated pictures: the visible label, the watermark after our codecs, and content credentials."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from avatar_stream.cli.main import main
from avatar_stream.errors import BadClip, BadInput
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media import provenance
from avatar_stream.media.encode import VideoEncoder
from avatar_stream.media.files import Clip
from avatar_stream.media.marking import LABEL_POSITIONS, Image, Label, Marker, label_for
from avatar_stream.media.recorder import Recorder
from avatar_stream.media.watermark import DETECTION_THRESHOLD, Watermark, detection_score
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.pipeline.render import render as render_file
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.tools.inspect import FRAMES_PER_PIECE, inspect

FRAME_COUNT = FRAMES_PER_PIECE + 10


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """A little more than two seconds of an avatar."""
    avatar, clip = (
        Avatar(Portrait.open(sample_pictures()["samuel"], 384, square=True), None),
        Clip(SAMPLES / "driver.mp4"),
    )
    made = [avatar(picture, at) for _, (at, picture) in zip(range(FRAME_COUNT), clip.frames(), strict=False)]
    avatar.close()
    clip.close()
    return made


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def luma(frame: av.VideoFrame) -> Image:
    return np.asarray(frame.to_ndarray()[: frame.height, : frame.width], np.uint8)


def transcode(frames: list[av.VideoFrame], codec: str, bitrate: int) -> Iterator[av.VideoFrame]:
    """Encode frames as the server does, and decode them."""
    encoder, decoder = VideoEncoder(codec, 25), av.CodecContext.create(codec.lower(), "r")
    encoder.bitrate = bitrate
    for number, frame in enumerate(frames):
        for packet in encoder.encode(frame, number * 3600):
            yield from decoder.decode(av.Packet(bytes(packet)))  # type: ignore[attr-defined]
    yield from decoder.decode(None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_the_watermark_is_read_from_two_seconds_of_a_recording(pictures: list[Image], codec: str) -> None:
    """Encoded at the server's bit rate, then recorded as VP8 at 1 Mbit/s."""
    read = []
    for watermark in (True, False):
        marker = Marker(watermark=watermark)
        streamed = transcode([marker(picture) for picture in pictures], codec, 1_500_000)
        recorded = list(transcode([frame.reformat(format="yuv420p") for frame in streamed], "VP8", 1_000_000))
        read.append(detection_score(luma(frame) for frame in recorded[-FRAMES_PER_PIECE:]))
    assert read[0] > 2 * DETECTION_THRESHOLD
    assert abs(read[1]) < DETECTION_THRESHOLD


def test_the_watermark_is_read_at_another_size(pictures: list[Image]) -> None:
    marker = Marker()
    frames = [luma(marker(picture)) for picture in pictures[:FRAMES_PER_PIECE]]
    assert (
        detection_score(cv2.resize(one, (270, 270), interpolation=cv2.INTER_AREA).astype(np.uint8) for one in frames)
        > DETECTION_THRESHOLD
    )


def test_the_watermark_is_invisible(pictures: list[Image]) -> None:
    plain = luma(Marker(watermark=False)(pictures[0]))
    marked = luma(Marker()(pictures[0]))
    difference = marked.astype(int) - plain
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 48
    assert np.abs(difference).max() <= 4


def test_unmarked_samples_are_not_taken_for_marked_ones() -> None:
    for path in sample_pictures().values():
        assert not inspect(path).marked


def test_a_watermark_fits_each_size() -> None:
    mark = Watermark()
    for side in (128, 384):
        flat = np.full((side, side), 128, np.uint8)
        assert mark(flat).shape == flat.shape


def test_no_watermark_is_found_in_black_pictures() -> None:
    assert detection_score([]) == 0.0
    assert detection_score([np.zeros((64, 64), np.uint8)]) == 0.0


@pytest.mark.parametrize("position", LABEL_POSITIONS)
def test_the_label_is_in_its_corner(pictures: list[Image], position: str) -> None:
    picture = pictures[0]
    shown = Marker(Label("AI", position)).labelled(picture)
    changed = np.argwhere((shown != picture).any(2))
    middle = changed.mean(0)
    vertical, horizontal = position.split("-")
    assert (middle[0] < 60) == (vertical == "top")
    assert (middle[1] < 60) == (horizontal == "left")
    assert shown[tuple(changed.T)].max() > 200
    assert np.array_equal(Marker(Label("")).labelled(picture), picture)


def test_a_label_fits_any_picture() -> None:
    for shape in ((32, 48, 3), (16, 16, 3), (700, 300, 3)):
        assert Marker(Label("made by a machine")).labelled(np.zeros(shape, np.uint8)).shape == shape


def test_omitting_the_label_requires_a_reason() -> None:
    assert label_for("AI", "top-left", "").text == "AI"
    assert label_for("AI", "top-left", "shown on a stage that says so").text == ""
    for text, position, reason in (("AI", "top-left", "no"), (" ", "top-left", ""), ("x" * 25, "top-left", ""),
                                   ("AI", "middle", ""), ("由AI生成", "top-left", "")):  # fmt: skip
        with pytest.raises(BadInput):
            label_for(text, position, reason)


def render(tmp_path: Path, *more: str) -> tuple[Path, dict[str, Any]]:
    short = tmp_path / "short.mp4"
    clip = Clip(SAMPLES / "driver.mp4")
    recorder = Recorder(short, clip.rate, (256, 256))
    for _, (_, picture) in zip(range(30), clip.frames(), strict=False):
        recorder.write(cv2.resize(picture, (256, 256)).astype(np.uint8))
    recorder.close()
    out = tmp_path / "out.mp4"
    assert main(["render", "felix", str(short), "-o", str(out), "--engine", "warp", "--size", "256", *more]) == 0
    return out, inspect(out).report()


def test_a_rendered_file_has_label_watermark_and_credentials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = render(tmp_path)
    assert report["marked"]
    assert report["share"] == 1.0
    assert report["credentials"]["generated"]
    assert report["credentials"]["intact"]
    assert "avatar_stream" in report["credentials"]["generator"]
    assert not list(tmp_path.glob("*.part*"))
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    assert "generated: avatar_stream's watermark" in capsys.readouterr().out
    assert main(["inspect", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["marked"]


def test_marks_are_omitted_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, report = render(tmp_path, "--no-watermark", "--unlabelled", "for a study of labels")
    assert not report["marked"]
    assert "for a study of labels" in capsys.readouterr().err


def test_inspect_reports_a_changed_file(tmp_path: Path) -> None:
    out, _ = render(tmp_path)
    data = bytearray(out.read_bytes())
    data[len(data) // 2] ^= 1
    out.write_bytes(data)
    credentials = provenance.read(out)
    assert credentials is not None
    assert not credentials["intact"]


def test_without_c2pa_files_are_rendered_unsigned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "installed", lambda: False)
    _, report = render(tmp_path)
    assert report["marked"]
    assert report["credentials"] is None
    assert not report["readable"]


def test_formats_that_cannot_be_signed_are_refused_before_rendering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    began: list[Any] = []
    monkeypatch.setattr("avatar_stream.pipeline.render.open_driving_source", began.append)
    with pytest.raises(BadInput, match="content credentials"):
        render_file(
            Portrait.open(sample_pictures()["felix"], 256), SAMPLES / "driver.mp4", tmp_path / "x.mp4", networks=None
        )
    assert began == []


def test_files_that_cannot_be_inspected_are_reported(tmp_path: Path) -> None:
    for name, data in (("no.mp4", None), ("text.mp4", b"hello"), ("empty.jpg", b"")):
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(BadClip):
            inspect(path)
