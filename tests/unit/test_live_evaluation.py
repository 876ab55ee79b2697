"""The evaluation of the live path on people driven by themselves, blind contact sheets, and folds."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar_stream.errors import BadInput
from avatar_stream.identity.library import SAMPLES
from avatar_stream.media.files import Clip
from avatar_stream.media.recorder import Recorder
from engines import blind
from engines.data.packs import Footage, in_fold
from engines.judges import Image, track_again
from engines.live import clip_figures, measure, self_driven_pictures, shape_error, table
from tests.unit.faces import face

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """The sample driver around its wide mouth, at half size."""
    clip = Clip(SAMPLES / "driver.mp4")
    found = [cv2.resize(picture, (320, 240)) for _, picture in clip.frames()]
    clip.close()
    return [np.asarray(picture, np.uint8) for picture in found[:12] + found[118:160]]


@pytest.fixture(scope="module")
def footage(pictures: list[Image]) -> Footage:
    frames = [cv2.imencode(".png", cv2.cvtColor(p, cv2.COLOR_RGB2BGR))[1].tobytes() for p in pictures]
    faces = [np.full((478, 3), np.nan, np.float32) if f is None else f for f in track_again(pictures)]
    return Footage("sample", "nobody", "clip", "", frames, np.stack(faces))


def test_a_repeated_clip_scores_perfect_and_a_frozen_one_does_not(footage: Footage, pictures: list[Image]) -> None:
    perfect = clip_figures(footage, pictures, None)
    assert perfect["mouth_db"] > 60
    assert perfect["lips_shape"] < 0.002
    assert perfect["edges"] == pytest.approx(1, abs=1e-3)
    frozen = clip_figures(footage, [pictures[0]] * len(pictures), None)
    assert frozen["mouth_db"] < 25
    assert frozen["lips_shape"] > 3 * perfect["lips_shape"] + 0.01


def test_the_live_path_scores_better_than_a_frozen_clip(footage: Footage, pictures: list[Image]) -> None:
    shown = self_driven_pictures(None, footage)
    assert len(shown) == len(footage)
    frozen = clip_figures(footage, [pictures[0]] * len(pictures), None)
    assert clip_figures(footage, shown, None)["lips_shape"] < 0.6 * frozen["lips_shape"]
    report = measure(None, [footage], None)
    text = table(report, report)
    assert "+0.00" in text
    assert "sample" in text


def test_shape_is_independent_of_position_size_and_roll() -> None:
    a, b = face(100), face(160, (0, 0, 0.3))
    assert shape_error(a, b, list(range(468))) < 1e-3
    assert shape_error(face(100, jawOpen=0.6), b, [13, 14, 17]) > 0.03


def test_a_blind_sheet_keeps_its_key_apart(pictures: list[Image], tmp_path: Path) -> None:
    for name in ("driver", "a", "b"):
        recorder = Recorder(tmp_path / f"{name}.mp4", Fraction(25), (320, 240))
        for picture in pictures:
            recorder.write(picture if name != "b" else np.ascontiguousarray(picture[:, ::-1]))
        recorder.close()
    named = [f"now={tmp_path / 'a.mp4'}", f"before={tmp_path / 'b.mp4'}"]
    blind.main([str(tmp_path / "out"), str(tmp_path / "driver.mp4"), *named, "--rows", "3", "--seed", "4"])
    key = json.loads((tmp_path / "out" / "key.json").read_text())
    sheet = cv2.imread(str(tmp_path / "out" / "sheet.png"))
    assert sheet.shape == (len(key) * blind.CELL_PIXELS, 3 * blind.CELL_PIXELS, 3)
    assert all(sorted(row) == ["before", "now"] for row in key)
    with pytest.raises(SystemExit, match="name every clip"):
        blind.main([str(tmp_path / "out"), str(tmp_path / "driver.mp4"), "nameless.mp4"])


def test_folds_are_disjoint_and_cover_all_people() -> None:
    people = [f"p{k:04}" for k in range(200)]
    parts = [[p for p in people if in_fold(p, f"{k}/5")] for k in range(1, 6)]
    assert sorted(person for part in parts for person in part) == people
    assert min(len(part) for part in parts) > 20
    with pytest.raises(BadInput, match="K/N"):
        in_fold("p0001", "0/5")
