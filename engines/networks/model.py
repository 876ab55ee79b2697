"""The whole model of one tier: encoders of portrait and landmarks, the denoiser and the decoder.

All pictures are in the aligned face frame. ``B`` is the batch of sessions, ``N`` the number of the window's slots.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.networks.codec import GuidedDecoder
from engines.networks.config import Tier
from engines.networks.denoiser import Denoiser
from engines.networks.identity import IdentityEncoder
from engines.networks.landmarks import LandmarkEncoder


class Reference(NamedTuple):
    """Encodings of one portrait, the same for every frame of a session."""

    code: Tensor  # [B, reference, grid, grid]
    sink: Tensor  # [B, (grid/4)^2, deep]
    z_id: Tensor  # [B, 512]


class ReferenceEncoder(nn.Module):
    """Encodes the portrait's aligned face: a code on the latent grid, and sink tokens for the window's attention."""

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        low, middle, deep = tier.widths
        self.patch = tier.patch
        self.enter = nn.Conv2d(tier.latent, low, 1)
        self.body = nn.ModuleList(
            [
                nn.Sequential(nn.SiLU(), nn.Conv2d(low, low, 3, padding=1), nn.GroupNorm(8, low), nn.SiLU()),
                nn.Sequential(nn.Conv2d(low, middle, 3, 2, 1), nn.GroupNorm(8, middle), nn.SiLU()),
                nn.Sequential(nn.Conv2d(middle, deep, 3, 2, 1), nn.GroupNorm(8, deep), nn.SiLU()),
            ]
        )
        self.code = nn.Conv2d(low, tier.reference, 1)
        self.sink = nn.LayerNorm(deep)

    def forward(self, face: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 3, size, size]`` in -1..1 -> code ``[B, reference, grid, grid]``, sink ``[B, (grid/4)^2, deep]``."""
        x = self.body[0](self.enter(F.pixel_unshuffle(face, self.patch)))
        deep = self.body[2](self.body[1](x))
        return self.code(x), self.sink(deep.flatten(2).transpose(1, 2))


class Model(nn.Module):
    """All networks of one tier."""

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        self.tier = tier
        self.reference = ReferenceEncoder(tier)
        self.identity = IdentityEncoder(tier)
        self.landmarks = LandmarkEncoder(tier)
        self.denoiser = Denoiser(tier)
        self.decoder = GuidedDecoder(tier)
        seen = tier.latent + tier.landmarks + tier.reference
        self.condition = nn.Sequential(nn.Conv2d(seen, tier.widths[0], 1), nn.SiLU())
        # A learned position embedding: eyes and mouth are always in the same cells.
        self.place = nn.Parameter(torch.zeros(1, tier.widths[0], tier.grid, tier.grid))

    def encode_portrait(self, face: Tensor) -> Reference:
        """All encodings of a portrait's aligned face ``[B, 3, size, size]`` in -1..1."""
        code, sink = self.reference(face)
        return Reference(code, sink, self.identity(face))

    def conditioning(self, shown: Tensor, landmarks: Tensor, code: Tensor) -> Tensor:
        """Conditioning of a slot; it stays fixed while the slot is denoised.

        ``shown [B, 3, size, size]`` in -1..1, ``landmarks [B, l, grid, grid]``, ``code [B, r, grid, grid]`` ->
        ``[B, low, grid, grid]``.
        """
        return self.condition(torch.cat([F.pixel_unshuffle(shown, self.tier.patch), landmarks, code], 1)) + self.place


def add_noise(clean: Tensor, noise: Tensor, level: Tensor | float) -> Tensor:
    """Interpolate from clean to noise, ``(1 - t) x0 + t e`` (Liu et al., "Rectified flow", ICLR 2023)."""
    return (1 - level) * clean + level * noise
