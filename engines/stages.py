"""The stages of training: the inputs and the losses of each.

``motion`` trains the residual, which adds what a warp cannot show. ``identity`` trains the identity encoder.
``joint`` trains the residual with identity, over windows of two frames. ``distil`` distils a many-step teacher into
the student's two steps. ``slide`` rolls the window over the model's own outputs, as at run time. The last two have a
critic of mouths and eyes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avatar_stream.portrait.aligned import ALIGNED_SIZE
from avatar_stream.portrait.compositor import LIGHT_BLUR_PIXELS
from engines.data.batches import Batch
from engines.data.pairs import CONTEXT_FRAMES
from engines.losses import (
    Critic,
    Recognition,
    critic_loss,
    feature_matching_loss,
    generator_loss,
    pixel_weights,
    reconstruction,
)
from engines.networks.codec import encode
from engines.networks.model import Model, Reference, add_noise

Losses = dict[str, Tensor]


@dataclass
class Helpers:
    """Other networks that a stage needs, trained or frozen, and weights of losses."""

    recognition: Recognition | None = None
    critic: Critic | None = None
    teacher: Model | None = None
    self_rolled: float = 0.3
    adversarial: float = 0.02  # weight of the generator loss
    matching: float = 5.0  # weight of feature matching, relative to that


@dataclass
class EncodedWindow:
    """A batch, encoded for the denoiser."""

    reference: Reference
    conditioning: Tensor  # [B, N, low, grid, grid]
    residual: Tensor  # [B, N, latent, grid, grid] the truth


def encode_window(model: Model, batch: Batch, *, with_identity: bool) -> EncodedWindow:
    """Encode everything that stays fixed while a window is denoised."""
    size, window = batch.shown.shape[:2]
    code, sink = model.reference(batch.reference)
    z_id = model.identity(batch.reference) if with_identity else code.new_zeros(size, model.tier.identity)
    landmarks = model.landmarks.sequence(batch.raster, window)
    conditioning = torch.stack(
        [model.conditioning(batch.shown[:, k], landmarks[:, k], code) for k in range(window)], 1
    )
    residual = encode((batch.target - batch.shown).flatten(0, 1), model.tier).unflatten(0, (size, window))
    return EncodedWindow(Reference(code, sink, z_id.detach()), conditioning, residual)


def decode_pictures(model: Model, batch: Batch, latent: Tensor) -> Tensor:
    """Decode clean latents ``[B, N, ...]`` to pictures ``[B*N, 3, s, s]``."""
    shown = batch.shown.flatten(0, 1)
    raster = batch.raster[:, CONTEXT_FRAMES:].flatten(0, 1)
    residual = light_only(model.decoder(latent.flatten(0, 1), shown, raster), raster[:, :1])
    return shown + batch.gate.flatten(0, 1) * residual


def light_only(residual: Tensor, hole: Tensor) -> Tensor:
    """See ``avatar_stream.portrait.compositor.light_only``: ``[B, 3, s, s]`` and ``[B, 1, s/2, s/2]``."""
    sigma = LIGHT_BLUR_PIXELS * residual.shape[-1] / ALIGNED_SIZE
    reach = round(3 * sigma)
    at = torch.arange(-reach, reach + 1, device=residual.device, dtype=residual.dtype)
    kernel = torch.exp(-at * at / (2 * sigma * sigma))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(residual, (reach,) * 4, mode="replicate")
    coarse = F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)
    share = F.interpolate(hole, residual.shape[-2:], mode="bilinear")
    return residual + share * (coarse - residual)


def reconstruction_loss(model: Model, batch: Batch, picture: Tensor) -> Tensor:
    """The weighted reconstruction loss of decoded pictures."""
    weight = pixel_weights(batch.raster[:, CONTEXT_FRAMES:].flatten(0, 1), model.tier.size)
    return reconstruction(picture.float(), batch.target.flatten(0, 1), weight)


class NoiseBank:
    """Gaussian noise, sampled once and reused: on a CPU new noise costs a tenth of a training step."""

    def __init__(self, fields: int = 256) -> None:
        self.fields = fields
        self._kept: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """Noise with the shape of ``x [B, N, ...]``."""
        key = (x.shape[2:], x.device)
        if key not in self._kept:
            self._kept[key] = torch.randn(self.fields, *x.shape[2:], device=x.device)
        chosen = torch.randint(self.fields, (x.shape[0] * x.shape[1],), device=x.device)
        return self._kept[key][chosen].unflatten(0, x.shape[:2])


NOISE_BANK = NoiseBank()


def draw_levels(batch: int, window: int) -> Tensor:
    """Noise levels ``[B, N]``: mostly the staggered levels of the running window, sometimes random ones."""
    staggered = (torch.arange(window) + 1) / window
    levels = staggered.expand(batch, -1).clone()
    if window == 1:
        return torch.where(torch.rand(batch, 1) < 0.85, 1.0, torch.rand(batch, 1))
    other = torch.rand(batch, 1) < 0.1
    return torch.where(other, torch.rand(batch, window).sort(1).values, levels)


def motion(model: Model, batch: Batch, helpers: Helpers, *, with_identity: bool = False) -> Losses:
    """Denoise the residual.

    With probability ``self_rolled``, levels below 1 start from the model's own guess at level 1, as in the running
    window, and not from the truth. Otherwise the second step learns to trust its input and only sharpens errors.
    """
    encoded = encode_window(model, batch, with_identity=with_identity)
    _, sink, z_id = encoded.reference
    size, window = batch.shown.shape[:2]
    start, noise = encoded.residual, NOISE_BANK.like(encoded.residual)
    levels = draw_levels(size, window).to(noise.device)
    if torch.rand(()) < helpers.self_rolled:
        if window == 1:
            levels = torch.full_like(levels, 0.5)
        with torch.no_grad():
            start = model.denoiser(noise, encoded.conditioning, torch.ones_like(levels), z_id, sink)
    noisy = add_noise(start, noise, levels[:, :, None, None, None])
    picture = decode_pictures(model, batch, model.denoiser(noisy, encoded.conditioning, levels, z_id, sink))
    return {"reconstruction": reconstruction_loss(model, batch, picture)}


def identity(model: Model, batch: Batch, helpers: Helpers) -> Losses:
    """Recognise the person from the portrait and from a frame with another expression."""
    assert helpers.recognition is not None
    z_id = model.identity(torch.cat([batch.reference, batch.target[:, 0]]))
    return {"recognition": 0.1 * helpers.recognition(z_id.float(), batch.person.repeat(2))}


def joint(model: Model, batch: Batch, helpers: Helpers) -> Losses:
    """Stage ``motion`` with modulation by ``z_id``.

    The identity encoder is frozen from here on, so that ``z_id`` keeps its meaning. Up to release 4 a loss also
    pulled the picture's identity to the portrait's: it made open mouths resemble the portrait's closed one.
    """
    return motion(model, batch, helpers, with_identity=True)


@torch.no_grad()
def denoise_from_noise(model: Model, batch: Batch, steps: int) -> Tensor:
    """Clean latents after ``steps`` denoising steps from pure noise, with all slots at the same level."""
    encoded = encode_window(model, batch, with_identity=True)
    _, sink, z_id = encoded.reference
    noise = NOISE_BANK.like(encoded.residual)
    clean = torch.zeros_like(noise)
    for step in range(steps):
        level = noise.new_full(noise.shape[:2], 1 - step / steps)
        clean = model.denoiser(
            add_noise(clean, noise, level[:, :, None, None, None]), encoded.conditioning, level, z_id, sink
        )
    return clean


def slide(model: Model, batch: Batch, helpers: Helpers) -> Losses:
    """Roll the window over ``batch``'s frames; each slot continues from the model's own guess.

    Every tick gives two pictures: the oldest slot's, which is shown, and the newest slot's first guess. Gradients do
    not pass from tick to tick (Zhang et al., "PersonaLive", 2025, sliding training).
    """
    return _sliding_losses(model, batch, helpers, truth=1.0)


def distil(model: Model, batch: Batch, helpers: Helpers) -> Losses:
    """Stage ``slide``, with the mean of truth and a many-step teacher's pictures as target."""
    return _sliding_losses(model, batch, helpers, truth=0.5)


def _sliding_losses(model: Model, batch: Batch, helpers: Helpers, truth: float) -> Losses:
    frames = batch.shown.shape[1]
    encoded = encode_window(model, batch, with_identity=True)
    _, sink, z_id = encoded.reference
    if truth < 1:
        assert helpers.teacher is not None
        with torch.no_grad():
            teacher_pictures = decode_pictures(
                helpers.teacher, batch, denoise_from_noise(helpers.teacher, batch, helpers.teacher.tier.steps)
            )
        mixed = truth * batch.target + (1 - truth) * teacher_pictures.float().unflatten(0, batch.target.shape[:2])
        wanted = Batch(batch.reference, batch.shown, mixed, batch.raster, batch.gate, batch.person)
    else:
        wanted = batch
    noise = NOISE_BANK.like(encoded.residual[:, :1])
    levels = torch.tensor([[0.5, 1.0]], device=noise.device).expand(len(noise), -1)
    with torch.no_grad():
        guess = model.denoiser(noise, encoded.conditioning[:, :1], levels[:, 1:], z_id, sink)
    total: list[Losses] = []
    for k in range(1, frames):
        pair = _cut_frames(batch, k - 1, k + 1)
        noisy = torch.cat([add_noise(guess, noise, 0.5), noise], 1)
        clean = model.denoiser(noisy, encoded.conditioning[:, k - 1 : k + 1], levels, z_id, sink)
        picture = decode_pictures(model, pair, clean)
        losses = {"reconstruction": reconstruction_loss(model, _cut_frames(wanted, k - 1, k + 1), picture)}
        if helpers.critic is not None and helpers.adversarial:
            losses |= _critic_losses(helpers.critic, pair, picture, helpers)
        total.append(losses)
        guess = clean[:, 1:].detach()
    return {name: torch.stack([losses[name] for losses in total]).mean() for name in total[0]}


def _critic_losses(critic: Critic, pair: Batch, picture: Tensor, helpers: Helpers) -> Losses:
    """The critic's loss on the shown (oldest) slot, and the model's adversarial and feature matching losses."""
    size = len(pair.shown)
    shown, target, gate = pair.shown[:, 0], pair.target[:, 0], pair.gate[:, 0]
    raster = pair.raster[:, CONTEXT_FRAMES]
    # Outside the gate the model may not paint: use the truth in both pictures there.
    fake = target + gate * (picture.float().unflatten(0, (size, -1))[:, 0] - target)
    real = critic(target, shown, raster, gate)
    critic_term = critic_loss(real, critic(fake.detach(), shown, raster, gate))
    for parameter in critic.parameters():
        parameter.requires_grad_(False)
    output = critic(fake, shown, raster, gate)
    for parameter in critic.parameters():
        parameter.requires_grad_(True)
    return {
        "critic": critic_term,
        "adversarial": helpers.adversarial * generator_loss(output),
        "matching": helpers.adversarial * helpers.matching * feature_matching_loss(real, output),
    }


def _cut_frames(batch: Batch, first: int, end: int) -> Batch:
    return Batch(
        batch.reference,
        batch.shown[:, first:end],
        batch.target[:, first:end],
        batch.raster[:, first : end + CONTEXT_FRAMES],
        batch.gate[:, first:end],
        batch.person,
    )


STAGES: dict[str, Callable[[Model, Batch, Helpers], Losses]] = {
    "motion": motion,
    "identity": identity,
    "joint": joint,
    "distil": distil,
    "slide": slide,
}
FRAMES_PER_WINDOW = {"motion": 1, "identity": 1, "joint": 2, "distil": 2, "slide": 4}
