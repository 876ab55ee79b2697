"""``render`` and the command line, with valid and invalid input."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from avatar_stream.cli.main import main
from avatar_stream.face import geometry
from avatar_stream.face.tracker import FaceState, FaceTracker, landmarks_of_still
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip
from avatar_stream.media.recorder import Recorder
from avatar_stream.portrait.portrait import read_picture
from tests.browser.camera import driver_frames

pytestmark = pytest.mark.slow

PORTRAIT = sample_pictures()["noor"]
DRIVER = SAMPLES / "driver.mp4"


@pytest.fixture(scope="module")
def short_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames of the sample clip with a tone as sound."""
    folder = tmp_path_factory.mktemp("clips")
    path = folder / "short.mp4"
    clip = Clip(DRIVER)
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 640, 480, "yuv420p"
        audio: Any = out.add_stream("aac", rate=48000)
        for k, (_, picture) in enumerate(clip.frames()):
            if 40 <= k < 90:
                out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode(None))
        tone = np.sin(np.arange(96_000) * 0.05).astype(np.float32)[None]
        for k in range(0, 96_000, 960):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone[:, k : k + 960]), "fltp", "mono")
            frame.sample_rate, frame.pts = 48_000, k
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    clip.close()
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("avatar-stream:")]
    return code, out, "\n".join(lines)


@pytest.mark.parametrize("engine", ["warp", "auto"])
def test_render_keeps_size_length_rate_and_sound(
    engine: str, short_driver: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    code, text, _ = run(capsys, "render", PORTRAIT, short_driver, "-o", out, "--engine", engine, "--json")
    assert code == 0
    report = json.loads(text)
    assert report["frames"] == 50
    assert report["output"] == str(out)
    assert report["engine"] == "warp" if engine == "warp" else report["engine"].startswith("openvino")
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.average_rate) == (512, 512, Fraction(25))
        assert container.streams.audio[0].codec_context.name == "aac"
        sound = sum(frame.samples for frame in container.decode(audio=0))
        assert sound == pytest.approx(96_000, abs=4_000)
    # In the written frames, the avatar's mouth follows the driver's.
    clips = [Clip(short_driver), Clip(out)]
    signals = []
    for clip in clips:
        tracker = FaceTracker(smooth=False)
        found = [tracker.update(picture, at).landmarks for at, picture in clip.frames()]
        assert all(face is not None for face in found)
        signals.append([geometry.mouth_opening(face) for face in found if face is not None])
        tracker.close()
        clip.close()
    assert np.corrcoef(signals[0], signals[1])[0, 1] > 0.85


def test_a_failed_render_leaves_no_partial_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grey = tmp_path / "grey.mp4"
    recorder = Recorder(grey, Fraction(25), (320, 240))
    for _ in range(10):
        recorder.write(np.full((240, 320, 3), 120, np.uint8))
    recorder.close()
    code, _, error = run(capsys, "render", PORTRAIT, grey, "-o", tmp_path / "out.mp4", "--engine", "warp")
    assert code == 2
    assert "no face found" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grey.mp4"]


def test_an_existing_output_survives_a_failed_render(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    code, _, _ = run(capsys, "render", PORTRAIT, tmp_path / "missing.mp4", "-o", out, "--engine", "warp")
    assert code == 2
    assert out.read_text() == "precious"


@pytest.mark.parametrize(
    ("portrait", "driving", "output", "word"),
    [
        (PORTRAIT, "missing.mp4", "o.mp4", "no such file"),
        (PORTRAIT, "text.mp4", "o.mp4", "not a video"),
        (PORTRAIT, "subtitles.srt", "o.mp4", "neither pictures nor sound"),
        (PORTRAIT, DRIVER, "o.avi", "name it o.mp4"),
        (PORTRAIT, DRIVER, "nowhere/o.mp4", "create it first"),
        ("missing.jpg", DRIVER, "o.mp4", "no such file. A sample's name ("),
        ("text.mp4", DRIVER, "o.mp4", "not a JPEG"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(
    portrait: Path, driving: Path, output: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("this is text")
    (tmp_path / "subtitles.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    code, _, error = run(
        capsys, "render", tmp_path / portrait, tmp_path / driving, "-o", tmp_path / output, "--engine", "warp"
    )
    assert code == 2
    assert len(error.splitlines()) == 1
    assert word in error


def test_a_truncated_clip_is_rendered_up_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.mp4"
    # A fragmented file can be read up to the cut, like an interrupted recording.
    clip = Clip(DRIVER)
    with av.open(str(cut), "w", options={"movflags": "frag_keyframe+empty_moov"}) as out:
        video: Any = out.add_stream("libx264", rate=25, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 640, 480, "yuv420p"
        for k, (_, picture) in enumerate(clip.frames()):
            if k < 60:
                out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode(None))
    clip.close()
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * 0.6)])
    code, text, _ = run(capsys, "render", PORTRAIT, cut, "-o", tmp_path / "o.mp4", "--engine", "warp", "--json")
    assert code == 0
    assert 10 < json.loads(text)["frames"] < 60


def test_frames_may_change_size_and_the_face_may_leave() -> None:
    face = read_picture(sample_pictures()["mateo"])
    tracker = FaceTracker()
    states = []
    for k in range(60):
        picture = np.full((512, 512, 3), 128, np.uint8) if 20 <= k < 40 else face
        if k % 7 == 0:
            picture = np.ascontiguousarray(picture[::2, ::2])
        states.append(tracker.update(picture, k / 25).state)
    tracker.close()
    assert states[0] is FaceState.FOUND
    assert states[20] is FaceState.HELD
    assert states[30] is FaceState.LOST
    assert states[-1] is FaceState.FOUND


def test_a_picture_without_a_face_is_searched() -> None:
    tracker = FaceTracker()
    assert tracker.update(np.zeros((240, 320, 3), np.uint8), 0).state is FaceState.SEARCHING
    tracker.close()


def test_the_largest_of_two_faces_is_tracked() -> None:
    import cv2

    large = read_picture(sample_pictures()["mateo"])
    small = cv2.resize(read_picture(sample_pictures()["noor"]), (256, 256), interpolation=cv2.INTER_AREA)
    for left in (True, False):
        picture = np.full((512, 800, 3), 140, np.uint8)
        x_large, x_small = (0, 530) if left else (280, 10)
        picture[:, x_large : x_large + 512] = large
        picture[200:456, x_small : x_small + 256] = small
        tracker = FaceTracker()
        found = tracker.update(picture, 0).landmarks
        tracker.close()
        assert found is not None
        assert x_large < found[1, 0] < x_large + 512
        alone = landmarks_of_still(large)
        assert alone is not None
        assert geometry.eye_distance(found) == pytest.approx(geometry.eye_distance(alone), rel=0.1)


def test_doctor_and_bench_report(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "doctor", "--json")
    report = json.loads(text)
    assert code == 0
    assert report["problems"] == []
    assert report["engine"].startswith("openvino")
    code, text, _ = run(capsys, "bench", "--frames", "30", "--json")
    report = json.loads(text)
    assert code == 0
    assert set(report["stages"]) >= {"decode", "track", "retarget", "warp", "align", "network", "compose", "encode"}
    for name in ("fps", "processor_ms", "sum_ms", "share_of_ceiling", *report["stages"]):
        least, most = report["spread"][name]
        assert 0 < least <= report["stages"].get(name, report.get(name)) <= most


def test_bench_compare_reports_differences(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    code, text, _ = run(capsys, "bench", "--engine", "warp", "--frames", "30", "--json")
    report = json.loads(text)
    # An earlier report in which decoding took a hundred times as long.
    slow = 100 * report["stages"]["decode"]
    report["stages"]["decode"], report["spread"]["decode"] = slow, [slow, slow]
    old.write_text(json.dumps(report | {"processor": "an abacus"}))
    code, text, _ = run(capsys, "bench", "--engine", "warp", "--frames", "30", "--compare", str(old))
    assert code == 0
    (line,) = [one for one in text.splitlines() if one.strip().startswith("decode") and "differs" in one]
    assert float(line.split()[3]) < 0.5
    assert "The processor differs: an abacus before" in text
    for content, message in (("no json", "is not a report"), ("{}", "is not a report of this release's bench")):
        old.write_text(content)
        code, _, error = run(capsys, "bench", "--compare", str(old))
        assert code == 2
        assert message in error
    code, _, error = run(capsys, "bench", "--compare", str(tmp_path / "none.json"))
    assert code == 2
    assert "No such file" in error


def test_a_new_tracker_has_no_state_of_the_previous_one() -> None:
    picture = next(iter(driver_frames()))
    first = FaceTracker(smooth=False)
    assert first.update(picture, 0).landmarks is not None
    first.close()
    second = FaceTracker(smooth=False)
    assert second._face_mesh is first._face_mesh
    # The face is at a position that the previous tracker never saw.
    moved = np.zeros_like(picture)
    moved[100:340, :320] = cv2.resize(picture, (320, 240))
    found = second.update(moved, 0).landmarks
    fresh = FaceTracker(smooth=False)
    assert fresh._face_mesh is not second._face_mesh
    wanted = fresh.update(moved, 0).landmarks
    assert found is not None
    assert wanted is not None
    assert np.abs(found - wanted).max() < 0.5
    second.close()
    fresh.close()


def test_keep_expression_out_of_range_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["render", str(PORTRAIT), str(DRIVER), "-o", str(tmp_path / "o.mp4"), "--keep-expression", "2"])
    assert stopped.value.code == 2
    assert "a number from 0 to 1" in capsys.readouterr().err
