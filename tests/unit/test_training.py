"""Training at toy size, from pictures to a release: packs, every stage, export, evaluation."""

import csv
import json
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avatar_stream.errors import BadInput
from avatar_stream.face import geometry
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip
from avatar_stream.media.recorder import Recorder
from engines import evaluate, export, lease, train
from engines.checkpoint import keep_model, load_model
from engines.data import pairs
from engines.data.made import MadeWindows, Motions
from engines.data.packs import check_splits, load_packs, write_packs
from engines.data.pairs import ClipWindows
from engines.measure import dev_cases, face_regions

pytestmark = pytest.mark.slow

TOY_OPTIONS = [
    "--tier",
    "toy",
    "--batch",
    "8",
    "--workers",
    "0",
    "--pool",
    "40",
    "--fresh",
    "1",
    "--check-every",
    "1000",
]
TOY_OPTIONS += ["--dev-pairs", "3", "--rate", "2e-3", "--threads", "1"]


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs like the real ones: stills and the sample clip for training, another face for dev."""
    folder = tmp_path_factory.mktemp("data")
    rows = []

    def add(split: str, kind: str, identity: str, name: str) -> Path:
        rows.append({"file": name, "split": split, "kind": kind, "tier": "A", "identity": identity})
        return folder / name

    clip = Clip(SAMPLES / "driver.mp4")
    pictures = [cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA) for _, picture in clip.frames()][:130]
    clip.close()
    # The mirrored and recoloured sample clip serves as another person.
    others = [np.ascontiguousarray(picture[:, ::-1, [0, 2, 1]]) for picture in pictures]
    for path, frames in (
        (add("train", "clip", "driver", "train.mp4"), pictures),
        (add("dev", "clip", "other", "dev.mp4"), others),
    ):
        recorder = Recorder(path, Fraction(25), (320, 240))
        for picture in frames:
            recorder.write(picture)
        recorder.close()
    for split, names in (("train", ("felix", "mateo", "robin", "noor")), ("dev", ("samuel", "walter"))):
        for name in names:
            still = cv2.imread(str(sample_pictures()[name]))
            cv2.imwrite(str(add(split, "still", name, f"{name}.png")), cv2.resize(still, (256, 256)))
    with open(folder / "manifest.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    written = write_packs(folder, folder / "packs", max_bytes=300_000)
    assert len(written) > 2, "a small limit must give several pieces"
    assert all(path.stat().st_size < 8_000_000 for path in written)
    return folder / "packs"


def run(stage: str, folder: Path, packs: Path, steps: int, *more: str) -> list[dict[str, float]]:
    """Train a stage and return its log."""
    torch.manual_seed(0)
    train.main([stage, str(folder), "--packs", str(packs), "--steps", str(steps), *TOY_OPTIONS, *more])
    with open(folder / "log.csv") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def test_packs_contain_pictures_landmarks_and_splits(packs: Path) -> None:
    (clip,) = load_packs(packs, "train", "clip")
    assert clip.has_face.mean() > 0.98
    assert clip.mouth.max() - clip.mouth.min() > 0.1
    assert clip.picture(3).shape == (240, 320, 3)
    assert clip.matte(next(iter(clip.portraits))).shape == (240, 320)
    assert {f.identity for f in load_packs(packs, "dev")}.isdisjoint(f.identity for f in load_packs(packs, "train"))
    with pytest.raises(BadInput, match="python -m engines"):
        load_packs(packs, "nowhere")


def test_a_person_in_two_splits_is_refused() -> None:
    rows = [{"identity": "a", "split": "train"}, {"identity": "a", "split": "dev"}, {"identity": "b", "split": "dev"}]
    with pytest.raises(BadInput, match="more than one split: a;"):
        check_splits(rows)


def test_dev_pairs_differ_as_their_kind_says(packs: Path) -> None:
    cases = dev_cases(packs, 3)
    assert {case.kind for case in cases} >= {"mouth", "any"}
    for case in cases:
        masks = face_regions(case.window)
        assert masks["mouth"].sum() > 200
        assert not (masks["mouth"] & masks["rest"]).any()
        # Warped to the target's landmarks, the rest of the face must match.
        error = np.abs(case.window.target[0].astype(int) - case.window.warp[0])
        assert error[masks["rest"]].mean() < 12


def test_synthetic_targets_differ_from_the_warp_in_the_mouth(packs: Path) -> None:
    footage = load_packs(packs, "train")
    motions = Motions(footage)
    random = np.random.default_rng(3)
    inside, outside = [], []
    for _ in range(12):
        window = MadeWindows(next(f for f in footage if f.kind == "still"), motions).draw(1, random)
        hole = face_regions(window)["hole"]
        difference = np.abs(window.target[0].astype(int) - window.warp[0]).mean(2)
        if hole.sum() > 80:
            inside.append(difference[hole].mean())
            outside.append(difference[100:130, 40:150].mean())
    assert len(inside) >= 3
    assert np.mean(inside) > 3 * np.mean(outside)


def test_training_windows_follow_the_clip(packs: Path) -> None:
    (clip,) = load_packs(packs, "train", "clip")
    windows = ClipWindows(clip)
    window = windows.window(windows.portraits[0], 40, 3)
    assert window.shown.shape == window.target.shape == (3, 192, 192, 3)
    assert window.raster.shape == (5, 7, 96, 96)
    assert geometry.mouth_opening(clip.landmarks[40]) == pytest.approx(float(clip.mouth[40]))


@pytest.fixture(scope="module")
def trained(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, float]]]]:
    """Train every stage, each from the one before.

    Mouth views are off: these faces are drawn by this renderer, and with the light of a mouth view nothing would be
    left to learn.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "read_mouth", lambda picture, landmarks: None)
        return all_stages(packs, tmp_path_factory.mktemp("runs"))


def all_stages(packs: Path, runs: Path) -> tuple[Path, dict[str, list[dict[str, float]]]]:
    # The steps needed depend on a processor's rounding. The learning rate rises over a hundred steps: these are few.
    for steps in (32, 64, 128, 256):
        logs = {"motion": run("motion", runs / "motion", packs, steps, "--check-every", "16", "--rate", "6e-3")}
        if has_learnt(logs["motion"]):
            break
    motion = str(runs / "motion" / "last.pt")
    logs["identity"] = run("identity", runs / "identity", packs, 30, "--check-every", "15", "--init", motion)
    identity = str(runs / "identity" / "last.pt")
    few = ("--batch", "4", "--pool", "8")
    logs["joint"] = run("joint", runs / "joint", packs, 8, "--init", identity, *few)
    joint = str(runs / "joint" / "last.pt")
    logs["distil"] = run("distil", runs / "distil", packs, 6, "--init", joint, "--teacher", joint, *few)
    logs["slide"] = run("slide", runs / "slide", packs, 1, "--init", str(runs / "distil" / "last.pt"), *few)
    return runs, logs


def has_learnt(motion: list[dict[str, float]]) -> bool:
    """Whether the light drawn on a face outside the training set has come nearer to the truth."""
    first, last = (row["mouth/hole"] + row["lids/hole"] for row in (motion[0], motion[-1]))
    return last > first + 0.1 and motion[-1]["mouth/hole"] > motion[0]["mouth/hole"] + 0.1


def test_every_stage_learns(trained: tuple[Path, dict[str, list[dict[str, float]]]]) -> None:
    runs, logs = trained
    motion = logs["motion"]
    assert has_learnt(motion)
    recognition = logs["identity"]
    assert recognition[-1]["recognition"] < 0.7 * recognition[0]["recognition"]
    assert recognition[-1]["dev/auc"] > max(0.7, recognition[0]["dev/auc"])
    # Each stage starts from the previous one, and no stage unlearns what another has learnt.
    for stage in ("joint", "distil", "slide"):
        assert logs[stage][-1]["mouth/hole"] > motion[0]["mouth/hole"] + 0.1, stage
    for stage in logs:
        assert (runs / stage / "curve.png").stat().st_size > 5_000
    assert (runs / "slide" / "sheet.png").stat().st_size > 10_000


def test_training_resumes_where_it_stopped(
    packs: Path, trained: tuple[Path, dict[str, list[dict[str, float]]]], tmp_path: Path
) -> None:
    joint = str(trained[0] / "joint" / "last.pt")
    more = ("--init", joint, "--dev-pairs", "1", "--pool", "8")
    run("joint", tmp_path, packs, 1, *more)
    first = torch.load(tmp_path / "last.pt", weights_only=True)
    log = run("joint", tmp_path, packs, 2, *more)
    second = torch.load(tmp_path / "last.pt", weights_only=True)
    assert [int(row["step"]) for row in log] == [1, 2]
    assert (first["step"], second["step"], second["samples"]) == (1, 2, 16)
    assert any(not torch.equal(first["model"][k], second["model"][k]) for k in first["model"])
    with pytest.raises(SystemExit, match="checkpoint of toy, not of live-256"):
        train.main(["joint", str(tmp_path / "x"), "--packs", str(packs), "--init", joint])
    with pytest.raises(SystemExit, match="distil needs --teacher"):
        train.main(["distil", str(tmp_path / "y"), "--packs", str(packs), "--tier", "toy", "--init", joint])


def test_a_saved_model_computes_the_same(
    trained: tuple[Path, dict[str, list[dict[str, float]]]], tmp_path: Path
) -> None:
    model = load_model(trained[0] / "slide" / "last.pt")
    keep_model(model, tmp_path / "kept.npz")
    again = load_model(tmp_path / "kept.npz", "toy").state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again[name], value, atol=2e-3, rtol=2e-3)


def test_a_training_lease_keeps_the_model(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One process suffices and imports torch once; a leased machine has no MediaPipe.
    monkeypatch.setattr(lease, "train_in_subprocess", train.main)
    monkeypatch.setitem(sys.modules, "mediapipe.python.solutions.selfie_segmentation", None)
    monkeypatch.setattr(lease, "MINUTE_SHARES", {"motion": 0.5, "slide": 0.5})
    command = ["--packs", str(packs), "--out", str(tmp_path), "--minutes", "0.001", "--tier", "toy"]
    lease.main([*command, "--batch", "4", "--workers", "0"])
    kept = tmp_path / "toy.npz"
    assert not kept.exists()
    kept.write_bytes(b"".join(piece.read_bytes() for piece in sorted(tmp_path.glob("toy.npz.*"))))
    assert load_model(kept, "toy").tier.name == "toy"
    assert (tmp_path / "slide" / "log.csv").is_file()
    assert not list(tmp_path.glob("*/last.pt"))


def test_a_release_is_exported_and_refused_if_it_is_worse(
    packs: Path, trained: tuple[Path, dict[str, list[dict[str, float]]]], tmp_path: Path
) -> None:
    weights, out = tmp_path / "weights", tmp_path / "out"
    export.main([str(trained[0] / "slide" / "last.pt"), str(weights)])
    common = ["--packs", str(packs), "--weights", str(weights), "--out", str(out), "--pairs", "3"]
    common += ["--clips", "0", "--portraits", "1", "--frames", "60", "--minutes", "0.06"]
    evaluate.main(common)
    report = json.loads((out / "report.json").read_text())
    # An untrained network may blur light; drawn teeth keep their edges.
    assert report["pairs"]["mouth/hole"]["edges"] > 0.5
    assert report["cross"]["face_found"] > 0.9
    assert 0 < report["cross"]["identity"] < 0.6
    assert (
        abs(report["roll_out"]["identity_drift"]) < 0.3
    )  # a few seconds, which start and end in different head poses
    assert (out / "cross.png").stat().st_size > 10_000
    previous = tmp_path / "previous.json"
    previous.write_text(json.dumps(report))
    better = json.loads(json.dumps(report))
    better["pairs"]["mouth/hole"]["gain_db"] += 1
    assert evaluate.regressions(report, report) == []
    (line,) = evaluate.regressions(report, better)
    assert line.startswith("pairs mouth/hole gain_db")
