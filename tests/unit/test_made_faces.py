"""Synthetic faces from the samples: photographs with new expressions are rendered, tracked and used for training."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar_stream.face import geometry
from avatar_stream.face.mesh import MOUTH_RING
from avatar_stream.face.model import COEFFICIENT_NAMES, coefficients
from avatar_stream.face.tracker import landmarks_of_still
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.portrait import segment_person
from engines.data.batches import Mix, Windows
from engines.data.packs import Footage, encode_image, load_packs, write_pack
from engines.data.portrayals import PortrayalWindows
from tests.unit.made_head import write_head

moderngl = pytest.importorskip("moderngl", reason="made faces need pip install .[made]")
pytestmark = pytest.mark.slow

from engines.made import factory  # noqa: E402
from engines.made.person import FaceState, Person, Sitter  # noqa: E402
from engines.made.studio import Studio  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with packs of two stills; skips the tests without OpenGL."""
    try:
        moderngl.create_context(standalone=True, backend="egl").release()
    except Exception as error:
        pytest.skip(f"no EGL here: {error}")
    folder = tmp_path_factory.mktemp("made")
    write_head(folder / "ict-facekit")
    stills = []
    for name in ("felix", "noor"):
        picture = cv2.resize(cv2.imread(str(sample_pictures()[name])), (320, 320), interpolation=cv2.INTER_AREA)
        face = landmarks_of_still(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8))
        assert face is not None
        stills.append(
            Footage(name, name, "still", "A", [encode_image(".png", picture.astype(np.uint8), [])], face[None])
        )
    (folder / "packs").mkdir()
    write_pack(folder / "packs" / "train-00.npz", stills)
    return folder


@pytest.fixture(scope="module")
def job(data: Path, tmp_path_factory: pytest.TempPathFactory) -> factory.Job:
    """A job for the factory: two people from the stills, with a little recorded motion."""
    out = tmp_path_factory.mktemp("faces")
    random = np.random.default_rng(0)
    motion = random.uniform(0, 0.5, (20, len(COEFFICIENT_NAMES))).astype(np.float32)
    np.savez(out / "recorded.npz", coefficients=motion, looks=np.zeros((20, 2), np.float32))
    return factory.Job(out, data / "packs", data, seed=3, people=2)


@pytest.fixture(scope="module")
def made(job: factory.Job) -> factory.Job:
    """The finished job, with one person per pack."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factory, "PEOPLE_PER_PACK", 1)
        assert [path.name for path in factory.Factory(job).run()] == ["train-00000.npz", "train-00001.npz"]
    return job


def test_made_faces_open_the_mouth_and_close_the_eyes(made: factory.Job) -> None:
    line = factory.Factory(made)
    still = line.sitters._stills[0]
    picture, landmarks = still.picture(0), still.landmarks[0]
    person = Person(line.layout, Sitter("x", picture, landmarks, segment_person(picture)), np.random.default_rng(1))
    studio = Studio(line.canvas, person)
    same, opened = (
        studio.render(FaceState(person.photo_coefficients)),
        studio.render(FaceState(coefficients(jawOpen=0.8))),
    )
    shut = studio.render(FaceState(coefficients(eyeBlink=1)))
    # With the photograph's own expression the picture does not change.
    assert np.abs(same.astype(int) - picture).mean() < 4
    faces = [landmarks_of_still(shot) for shot in (same, opened, shut)]
    assert all(face is not None for face in faces)
    calm, wide, blind = (face for face in faces if face is not None)
    assert geometry.mouth_opening(wide) > geometry.mouth_opening(calm) + 0.1
    # This head's lids have two dozen points.
    assert np.mean(geometry.eye_openings(blind)) < 0.9 * np.mean(geometry.eye_openings(calm))
    inside = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.round(wide[list(MOUTH_RING), :2]).astype(np.int32)], 1)
    grey = cv2.cvtColor(opened, cv2.COLOR_RGB2GRAY)[cv2.erode(inside, np.ones((3, 3), np.uint8)) > 0]
    assert grey.max() > 2 * grey.min(), "teeth and a dark area behind them"


def test_made_people_are_packed_with_tracked_landmarks(made: factory.Job) -> None:
    people = load_packs(made.out, "train", "made")
    assert len(people) == 2
    for person in people:
        assert person.has_face.mean() > 0.8
        assert 0 in person.portraits, "the original photograph is included"
        assert person.mouth[person.has_face].max() > person.mouth[0] + 0.08
        seen = landmarks_of_still(person.picture(3))
        assert seen is not None
        np.testing.assert_allclose(person.landmarks[3], seen, atol=0.05)
    assert list(made.out.glob("sheet-*.jpg"))


def test_a_killed_run_resumes_and_a_seed_is_reproducible(made: factory.Job) -> None:
    first, second = (made.out / f"train-0000{k}.npz" for k in (0, 1))
    before, kept = first.stat().st_mtime_ns, load_packs(made.out, "train")
    second.unlink()
    (made.out / "part-train-00001.npz").write_bytes(b"killed here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factory, "PEOPLE_PER_PACK", 1)
        assert [path.name for path in factory.Factory(made).run()] == [second.name]
    assert first.stat().st_mtime_ns == before
    again = load_packs(made.out, "train")
    assert [one.frames for one in again] == [one.frames for one in kept]


def test_training_windows_come_from_made_people(made: factory.Job) -> None:
    person = load_packs(made.out, "train", "made")[0]
    windows = PortrayalWindows(person)
    opened = int(np.nanargmax(np.where(person.has_face, person.mouth, np.nan)))
    window = windows.pair_window(0, opened, 2)
    assert window.shown.shape == window.target.shape == (2, 192, 192, 3)
    assert window.raster.shape == (4, 7, 96, 96)
    assert window.gate[-1].max() == 255, "an opened mouth is drawn"
    stream = iter(Windows(Mix(made.packs, made=0, stills=1, faces=made.out, faces_share=0.5)))
    kinds = {window.person for window in itertools.islice(stream, 12)}
    assert kinds & {0, 1}
    assert max(kinds) > 1, "made people have their own numbers"
