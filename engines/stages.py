"""The stages of training: what each one shows a model and what it asks of it.

``motion`` learns to paint what a warp cannot know; ``identity`` learns who a face is; ``joint`` paints knowing who,
over windows of two frames; ``distil`` brings a many-step teacher into the student's two steps; ``slide`` rolls the
real window over a model's own outputs. The last two have a critic of mouths and eyes.
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
    fooling_loss,
    matching_loss,
    pixel_weights,
    reconstruction,
)
from engines.networks.codec import encode
from engines.networks.model import Model, Reference, noised

Losses = dict[str, Tensor]


@dataclass
class Helpers:
    """What trains beside the model, or stands still beside it."""

    recognition: Recognition | None = None
    critic: Critic | None = None
    teacher: Model | None = None
    self_rolled: float = 0.3
    adversarial: float = 0.02  # weight of being found out by the critic
    matching: float = 5.0  # weight of its features, relative to that


@dataclass
class Seen:
    """A batch as the denoiser sees it."""

    reference: Reference
    conditioning: Tensor  # [B, N, low, grid, grid]
    residual: Tensor  # [B, N, latent, grid, grid] what it should find


def look(model: Model, batch: Batch, *, with_identity: bool) -> Seen:
    """Encode everything that does not change while a window is denoised."""
    size, window = batch.shown.shape[:2]
    code, sink = model.reference(batch.reference)
    z_id = model.identity(batch.reference) if with_identity else code.new_zeros(size, model.tier.identity)
    landmarks = model.landmarks.sequence(batch.raster, window)
    conditioning = torch.stack(
        [model.conditioning(batch.shown[:, k], landmarks[:, k], code) for k in range(window)], 1
    )
    residual = encode((batch.target - batch.shown).flatten(0, 1), model.tier).unflatten(0, (size, window))
    return Seen(Reference(code, sink, z_id.detach()), conditioning, residual)


def painted(model: Model, batch: Batch, latent: Tensor) -> Tensor:
    """The pictures ``[B*N, 3, s, s]`` that clean latents ``[B, N, ...]`` stand for."""
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


def wanted(model: Model, batch: Batch, picture: Tensor) -> Tensor:
    """The reconstruction loss of painted pictures."""
    weight = pixel_weights(batch.raster[:, CONTEXT_FRAMES:].flatten(0, 1), model.tier.size)
    return reconstruction(picture.float(), batch.target.flatten(0, 1), weight)


class NoiseBank:
    """Gaussian noise drawn once and dealt out again and again: on a CPU drawing it anew costs a tenth of a step."""

    def __init__(self, fields: int = 256) -> None:
        self.fields = fields
        self._kept: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """Noise of the shape of ``x [B, N, ...]``."""
        key = (x.shape[2:], x.device)
        if key not in self._kept:
            self._kept[key] = torch.randn(self.fields, *x.shape[2:], device=x.device)
        chosen = torch.randint(self.fields, (x.shape[0] * x.shape[1],), device=x.device)
        return self._kept[key][chosen].unflatten(0, x.shape[:2])


NOISE = NoiseBank()


def draw_levels(batch: int, window: int) -> Tensor:
    """Noise levels ``[B, N]``: mostly the staggered pattern that runs, sometimes any."""
    staggered = (torch.arange(window) + 1) / window
    levels = staggered.expand(batch, -1).clone()
    if window == 1:
        return torch.where(torch.rand(batch, 1) < 0.85, 1.0, torch.rand(batch, 1))
    other = torch.rand(batch, 1) < 0.1
    return torch.where(other, torch.rand(batch, window).sort(1).values, levels)


def motion(model: Model, batch: Batch, helpers: Helpers, *, with_identity: bool = False) -> Losses:
    """Denoise the residual.

    With probability ``self_rolled`` the levels below 1 start, as they do when the window rolls, from the model's own
    guess at level 1 and not from the truth: else the second step trusts what it sees and only sharpens errors.
    """
    seen = look(model, batch, with_identity=with_identity)
    _, sink, z_id = seen.reference
    size, window = batch.shown.shape[:2]
    start, noise = seen.residual, NOISE.like(seen.residual)
    levels = draw_levels(size, window).to(noise.device)
    if torch.rand(()) < helpers.self_rolled:
        if window == 1:
            levels = torch.full_like(levels, 0.5)
        with torch.no_grad():
            start = model.denoiser(noise, seen.conditioning, torch.ones_like(levels), z_id, sink)
    noisy = noised(start, noise, levels[:, :, None, None, None])
    picture = painted(model, batch, model.denoiser(noisy, seen.conditioning, levels, z_id, sink))
    return {"reconstruction": wanted(model, batch, picture)}


def identity(model: Model, batch: Batch, helpers: Helpers) -> Losses:
    """Recognise the person from the portrait and from a frame with another expression."""
    assert helpers.recognition is not None
    z_id = model.identity(torch.cat([batch.reference, batch.target[:, 0]]))
    return {"recognition": 0.1 * helpers.recognition(z_id.float(), batch.person.repeat(2))}


def joint(model: Model, batch: Batch, helpers: Helpers) -> Losses:
    """Motion with ``z_id`` modulating.

    The identity encoder itself stands still from here on: ``z_id`` is to say who somebody is, not how to paint them.
    Up to release 4 the picture's identity was pulled to the portrait's as well: opened mouths came to resemble its
    closed one.
    """
    return motion(model, batch, helpers, with_identity=True)


@torch.no_grad()
def rolled_out(model: Model, batch: Batch, steps: int) -> Tensor:
    """Clean latents after ``steps`` levels from pure noise, every slot at the same level."""
    seen = look(model, batch, with_identity=True)
    _, sink, z_id = seen.reference
    noise = NOISE.like(seen.residual)
    clean = torch.zeros_like(noise)
    for step in range(steps):
        level = noise.new_full(noise.shape[:2], 1 - step / steps)
        clean = model.denoiser(
            noised(clean, noise, level[:, :, None, None, None]), seen.conditioning, level, z_id, sink
        )
    return clean


def slide(model: Model, batch: Batch, helpers: Helpers) -> Losses:
    """Roll the real window over ``batch``'s frames, each slot going on from the model's own guess.

    Every tick gives two pictures: the oldest slot's, which is shown, and the newest one's first guess. Gradients stop
    at the tick, as only the last step of each carries them (Zhang et al., "PersonaLive", 2025, sliding training).
    """
    return _slide(model, batch, helpers, truth=1.0)


def distil(model: Model, batch: Batch, helpers: Helpers) -> Losses:
    """Slide, with half of the target from a many-step teacher."""
    return _slide(model, batch, helpers, truth=0.5)


def _slide(model: Model, batch: Batch, helpers: Helpers, truth: float) -> Losses:
    frames = batch.shown.shape[1]
    seen = look(model, batch, with_identity=True)
    _, sink, z_id = seen.reference
    if truth < 1:
        assert helpers.teacher is not None
        with torch.no_grad():
            taught = painted(helpers.teacher, batch, rolled_out(helpers.teacher, batch, helpers.teacher.tier.steps))
        mixed = truth * batch.target + (1 - truth) * taught.float().unflatten(0, batch.target.shape[:2])
        asked = Batch(batch.reference, batch.shown, mixed, batch.raster, batch.gate, batch.person)
    else:
        asked = batch
    noise = NOISE.like(seen.residual[:, :1])
    levels = torch.tensor([[0.5, 1.0]], device=noise.device).expand(len(noise), -1)
    with torch.no_grad():
        guess = model.denoiser(noise, seen.conditioning[:, :1], levels[:, 1:], z_id, sink)
    total: list[Losses] = []
    for k in range(1, frames):
        pair = _frames(batch, k - 1, k + 1)
        noisy = torch.cat([noised(guess, noise, 0.5), noise], 1)
        clean = model.denoiser(noisy, seen.conditioning[:, k - 1 : k + 1], levels, z_id, sink)
        picture = painted(model, pair, clean)
        losses = {"reconstruction": wanted(model, _frames(asked, k - 1, k + 1), picture)}
        if helpers.critic is not None and helpers.adversarial:
            losses |= _judged(helpers.critic, pair, picture, helpers)
        total.append(losses)
        guess = clean[:, 1:].detach()
    return {name: torch.stack([losses[name] for losses in total]).mean() for name in total[0]}


def _judged(critic: Critic, pair: Batch, picture: Tensor, helpers: Helpers) -> Losses:
    """The critic's loss on the shown (oldest) slot, and what the model pays for being found out."""
    size = len(pair.shown)
    shown, target, gate = pair.shown[:, 0], pair.target[:, 0], pair.gate[:, 0]
    raster = pair.raster[:, CONTEXT_FRAMES]
    # Where the model may not paint it is not judged either: there both pictures are the truth.
    fake = target + gate * (picture.float().unflatten(0, (size, -1))[:, 0] - target)
    real = critic(target, shown, raster, gate)
    learns = critic_loss(real, critic(fake.detach(), shown, raster, gate))
    for parameter in critic.parameters():
        parameter.requires_grad_(False)
    seen = critic(fake, shown, raster, gate)
    for parameter in critic.parameters():
        parameter.requires_grad_(True)
    return {
        "critic": learns,
        "adversarial": helpers.adversarial * fooling_loss(seen),
        "matching": helpers.adversarial * helpers.matching * matching_loss(real, seen),
    }


def _frames(batch: Batch, first: int, end: int) -> Batch:
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
FRAMES = {"motion": 1, "identity": 1, "joint": 2, "distil": 2, "slide": 4}
