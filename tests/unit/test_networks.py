"""The networks alone: exact codec, streamed encoder, and an export that computes the same as the model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avatar_stream.errors import BadInput
from avatar_stream.portrait.rolling_window import RollingWindow
from avatar_stream.runtime.choose import load
from avatar_stream.runtime.network import Job, state_names
from avatar_stream.runtime.networks import Networks
from engines.data.pairs import CONTEXT_FRAMES
from engines.export import TickGraph, export
from engines.grow import grow
from engines.losses import Critic, critic_loss, feature_matching_loss, generator_loss
from engines.mix import mix
from engines.networks.codec import GuidedDecoder, encode
from engines.networks.config import LIVE_256, LIVE_512, TEACHER_256, TOY, Tier
from engines.networks.landmarks import LandmarkEncoder
from engines.networks.model import Model, add_noise

pytestmark = pytest.mark.slow


def test_codec_and_noise_are_exact() -> None:
    residual = torch.rand(2, 3, 192, 192)
    latent = encode(residual, LIVE_256)
    assert latent.shape == (2, 108, 32, 32)
    # Untrained, the decoder is the inverse of the encoder; the guide only ever corrects it.
    decoder = GuidedDecoder(LIVE_256)
    guide = torch.rand(2, 3, 192, 192), torch.rand(2, 7, 96, 96)
    torch.testing.assert_close(decoder(latent, *guide), residual)
    noise = torch.randn_like(latent)
    torch.testing.assert_close(add_noise(latent, noise, 0.0), latent)
    torch.testing.assert_close(add_noise(latent, noise, 1.0), noise)


def test_streamed_encoding_equals_encoding_the_sequence() -> None:
    encoder = LandmarkEncoder(LIVE_256).eval()
    rasters = torch.rand(1, CONTEXT_FRAMES + 4, 7, 96, 96)
    state = [torch.zeros(1, c, 32, 32) for c in encoder.state_channels]
    with torch.no_grad():
        streamed = []
        for k in range(rasters.shape[1]):
            code, state = encoder(rasters[:, k], state)
            streamed.append(code)
        torch.testing.assert_close(
            torch.stack(streamed[CONTEXT_FRAMES:], 1), encoder.sequence(rasters, 4), atol=1e-5, rtol=1e-4
        )


def test_a_widened_model_computes_the_same() -> None:
    torch.manual_seed(0)
    small = Model(TOY).eval()
    for parameter in small.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    # With exactly doubled sizes, normalisation layers get the same statistics.
    sizes = {name: 2 * getattr(TOY, name) for name in ("landmarks", "reference", "guide", "embedding")}
    wide = grow(small, replace(TOY, name="wide", widths=(48, 64, 96), **sizes)).eval()
    face, rasters = torch.rand(2, 3, 192, 192), torch.rand(2, CONTEXT_FRAMES + 2, 7, 96, 96)
    x = torch.randn(2, 2, TOY.latent, TOY.grid, TOY.grid)
    levels = torch.tensor([[0.5, 1.0]]).expand(2, -1)

    def painted(model: Model) -> torch.Tensor:
        refer = model.encode_portrait(face)
        code = model.landmarks.sequence(rasters, 2)
        seen = torch.stack([model.conditioning(face, code[:, k], refer.code) for k in (0, 1)], 1)
        latent = model.denoiser(x, seen, levels, refer.z_id, refer.sink)
        return model.decoder(latent[:, 0], face, rasters[:, -1])

    with torch.no_grad():
        torch.testing.assert_close(painted(wide), painted(small), atol=1e-4, rtol=1e-3)
    with pytest.raises(BadInput, match="differ in more than width"):
        grow(small, LIVE_256)


def test_averaged_weights_lie_between_their_models() -> None:
    a, b = Model(TOY), Model(TOY)
    mixed = mix([a, b], [1, 3])
    name = "denoiser.enter.weight"
    wanted = 0.25 * a.state_dict()[name] + 0.75 * b.state_dict()[name]
    torch.testing.assert_close(mixed.state_dict()[name], wanted)
    with pytest.raises(BadInput, match="one tier"):
        mix([a, Model(replace(TOY, name="other"))], [1, 1])


@pytest.mark.parametrize(
    ("tier", "most"), [(LIVE_256, 15e6), (TEACHER_256, 40e6), (LIVE_512, 20e6)], ids=lambda x: getattr(x, "name", "")
)
def test_each_tiers_model_stays_within_its_size(tier: Tier, most: float) -> None:
    model = Model(tier).eval()
    assert sum(p.numel() for p in model.parameters()) < most
    face = torch.rand(1, 3, tier.size, tier.size)
    with torch.no_grad():
        code, sink, z_id = model.encode_portrait(face)
        assert float(z_id.norm()) == pytest.approx(1, abs=1e-4)
        rasters = torch.rand(1, CONTEXT_FRAMES + 1, tier.raster, tier.raster_size, tier.raster_size)
        conditioning = model.conditioning(face, model.landmarks.sequence(rasters, 1)[:, 0], code)[:, None]
        x = torch.randn(1, 1, tier.latent, tier.grid, tier.grid)
        clean = model.denoiser(x, conditioning, torch.ones(1, 1), z_id, sink)
        assert model.decoder(clean[:, 0], face, rasters[:, -1]).shape == face.shape


@pytest.mark.parametrize("slots", [2, 1])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_the_exported_network_equals_the_model(runtime: str, slots: int, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = Model(TOY)
    with torch.no_grad():
        for parameter in model.parameters():  # no zero layers, so that every path has an effect
            parameter.add_(0.05 * torch.randn_like(parameter))
    export(model, tmp_path)
    graph = TickGraph(model.eval(), slots)
    reference, ticker = load(tmp_path, runtime=runtime, slots=slots)
    face = np.random.default_rng(1).integers(0, 255, (1, 192, 192, 3)).astype(np.uint8)
    identity = reference.run({"reference": face})
    assert np.linalg.norm(identity.pop("z_id")) == pytest.approx(1, abs=1e-2)
    identity["modulation"] = identity["modulation"][:, -slots:]
    stream = ticker.open(identity)
    random = np.random.default_rng(0)
    for _ in range(12):
        frame = {
            "shown": random.integers(0, 255, (192, 192, 3)).astype(np.uint8),
            "raster": random.integers(0, 255, (7, 96, 96)).astype(np.uint8),
        }
        given = {name: value[None] for name, value in frame.items()} | identity | stream.state()
        state = state_names(stream.state())
        order = ("shown", "raster", "code", "sink", "modulation", *state)
        with torch.no_grad():
            wanted = graph(*(torch.from_numpy(given[name]) for name in order))
        (residual,) = ticker.run([Job(stream, frame)])
        # bf16 has about three digits; residuals are in grey levels.
        scale = float(np.abs(wanted[0].numpy()).max())
        np.testing.assert_allclose(residual, wanted[0].numpy()[0], atol=0.03 * scale)
        for name, value in zip(state, wanted[1:], strict=True):
            size = float(np.abs(value.numpy()).max(initial=0))
            np.testing.assert_allclose(stream.state()[name], value.numpy(), atol=0.03 * size)
    networks = Networks(runtime=runtime, folder=tmp_path, slots=(2, 1))
    references = networks.refer(np.full((192, 192, 3), 90, np.uint8))
    for slots in (2, 1):
        window = RollingWindow(networks, references, slots)
        assert window.push(frame["shown"], frame["raster"]).shape == (192, 192, 3)


def test_the_critic_learns_to_recognise_drawn_pictures() -> None:
    torch.manual_seed(0)
    critic = Critic(7, width=16)
    optimizer = torch.optim.AdamW(critic.parameters(), 2e-3)
    shown, raster, gate = torch.zeros(4, 3, 192, 192), torch.zeros(4, 7, 96, 96), torch.zeros(4, 1, 192, 192)
    gate[..., 130:170, 60:130] = 1
    for _ in range(25):
        real = torch.rand(4, 3, 192, 192) * 2 - 1
        soft = real + gate * (F.avg_pool2d(real, 3, 1, 1) - real)
        seen, judged = critic(real, shown, raster, gate), critic(soft, shown, raster, gate)
        loss = critic_loss(seen, judged)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1.2  # 2 is chance
    assert generator_loss(judged).item() > generator_loss(seen).item()
    assert feature_matching_loss(seen, seen).item() == 0 < feature_matching_loss(seen, judged).item()
