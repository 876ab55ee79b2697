"""The road from clips to an engine, at toy size: track, train, stop, resume, export, run."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.portrait.window import CARRIED, Networks, RollingWindow
from avatar_stream.runtime.network import load_network, zeros
from engines.data import track
from engines.data.pairs import CONTEXT, StillWindows, load_clips, load_stills
from engines.export import TickGraph, export
from engines.measure import dev_cases, regions, to_tensor
from engines.networks.live import LiveConfig, LiveModel, decode, encode, noised
from engines.train import Batch, loss_of, main


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data folder like the real one, of samples: two stills to train with, the sample clip for both splits."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for split, kind, source in (
        ("train", "still", sample_pictures()["amber"]),
        ("train", "still", sample_pictures()["mateo"]),
        ("train", "clip", SAMPLES / "driver.mp4"),
        ("dev", "clip", SAMPLES / "driver.mp4"),
    ):
        name = f"{split}-{source.name}"
        shutil.copy(source, folder / name)
        rows.append({"file": name, "split": split, "kind": kind, "tier": "A", "identity": source.stem})
    with open(folder / "manifest.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    tracks = folder / "tracks.npz"
    track.main([str(folder), str(tracks)])
    return folder, tracks


def test_tracking_finds_the_samples(data: tuple[Path, Path]) -> None:
    assert len(load_stills(*data, "train")) == 2
    (clip,) = load_clips(*data, "dev")
    assert clip.good.mean() > 0.98
    assert clip.mouth.max() - clip.mouth.min() > 0.1
    cases = dev_cases(*data, 2)
    assert len(cases) >= 2
    for case in cases:
        masks = regions(case.window)
        assert masks["mouth"].sum() > 200
        assert not (masks["mouth"] & masks["rest"]).any()
        # Warped to the truth's landmarks, the rest of the face must lie on it.
        error = np.abs(case.window.target[0].astype(int) - case.window.warp[0])
        assert error[masks["rest"]].mean() < 12


def test_training_resumes_where_it_stopped(data: tuple[Path, Path], tmp_path: Path) -> None:
    folder, tracks = data
    common = ["--data", str(folder), "--tracks", str(tracks), "--minutes", "0", "--batch", "2"]
    common += ["--workers", "0", "--pool", "4", "--window", "2"]
    main([str(tmp_path), *common])
    first = torch.load(tmp_path / "last.pt", weights_only=True)
    main([str(tmp_path), *common])
    second = torch.load(tmp_path / "last.pt", weights_only=True)
    assert (first["step"], second["step"]) == (1, 2)
    assert second["samples"] == 4
    moved = [not torch.equal(first["model"][k], second["model"][k]) for k in first["model"]]
    assert any(moved)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_a_small_model_learns(data: tuple[Path, Path]) -> None:
    """Sixty steps on eight windows: the loss falls well below that of the warp alone."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    stills = [StillWindows(*still) for still in load_stills(*data, "train")]
    windows = [stills[k % 2].draw(1, random) for k in range(8)]
    batch = Batch(
        to_tensor(np.stack([w.reference for w in windows])),
        to_tensor(np.stack([w.shown for w in windows])),
        to_tensor(np.stack([w.target for w in windows])),
        torch.from_numpy(np.stack([w.raster for w in windows])).float() / 255,
        torch.from_numpy(np.stack([w.gate for w in windows])).float()[:, :, None] / 255,
    )
    model = LiveModel(LiveConfig(widths=(16, 24, 32), landmarks=16, reference=16, embedding=32, heads=2))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    before = float(loss_of(model, batch, 0.0).detach())  # the last layer starts at zero: this is the warp
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_of(model, batch, 0.2)
        loss.backward()
        optimizer.step()
    after = float(np.mean([float(loss_of(model, batch, 0.0).detach()) for _ in range(4)]))
    assert after < 0.75 * before, (before, after)


def test_codec_and_noise_are_exact() -> None:
    config = LiveConfig()
    image = torch.rand(2, 3, 192, 192)
    latent = encode(image, config)
    assert latent.shape == (2, 108, 32, 32)
    torch.testing.assert_close(decode(latent, config) * config.residual_scale, image)
    noise = torch.randn_like(latent)
    torch.testing.assert_close(noised(latent, noise, 0.0), latent)
    torch.testing.assert_close(noised(latent, noise, 1.0), noise)


def test_streamed_landmarks_equal_the_sequence() -> None:
    encoder = LiveModel(LiveConfig()).landmarks.eval()
    rasters = torch.rand(1, CONTEXT + 4, 7, 96, 96)
    state = [torch.zeros(1, c, 32, 32) for c in encoder.state_channels]
    with torch.no_grad():
        streamed = []
        for k in range(rasters.shape[1]):
            code, state = encoder(rasters[:, k], state)
            streamed.append(code)
        torch.testing.assert_close(
            torch.stack(streamed[CONTEXT:], 1), encoder.sequence(rasters, 4), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("slots", [1, 2])
def test_the_export_rolls_like_the_model(runtime: str, slots: int, tmp_path: Path) -> None:
    torch.manual_seed(slots)
    model = LiveModel(LiveConfig(widths=(16, 24, 32), landmarks=16, reference=16, embedding=32, heads=2))
    with torch.no_grad():
        for parameter in model.parameters():  # no zero layers: every path must count
            parameter.add_(0.05 * torch.randn_like(parameter))
    export(model, tmp_path, slots)
    graph = TickGraph(model.eval(), slots)
    network = load_network(tmp_path / "tick.onnx", runtime=runtime)
    identity = load_network(tmp_path / "reference.onnx", runtime=runtime).run(
        {"reference": np.full((1, 192, 192, 3), 90, np.uint8)}
    )
    assert np.linalg.norm(identity["z_id"]) == pytest.approx(1, abs=1e-3)
    random = np.random.default_rng(0)
    state = zeros(network, list(CARRIED))
    for _ in range(12):
        frame = {
            "shown": random.integers(0, 255, (1, 192, 192, 3)).astype(np.uint8),
            "raster": random.integers(0, 255, (1, 7, 96, 96)).astype(np.uint8),
        }
        order = ("shown", "raster", "code", "sink", "z_id", *CARRIED)
        given = frame | {k: identity[k] for k in ("code", "sink", "z_id")} | state
        with torch.no_grad():
            wanted = graph(*(torch.from_numpy(given[name]) for name in order))
        out = network.run(given)
        # bf16 machines keep about three digits; residuals are in grey levels.
        scale = float(np.abs(wanted[0].numpy()).max())
        np.testing.assert_allclose(out["residual"], wanted[0].numpy(), atol=0.03 * scale)
        state = {name: out[f"next_{name}"] for name in CARRIED}
    window = RollingWindow(Networks(runtime=runtime, folder=tmp_path), np.full((192, 192, 3), 90, np.uint8))
    assert window.push(frame["shown"][0], frame["raster"][0]).shape == (192, 192, 3)
