"""The latent codec: residuals between a face and its warp, and a decoder guided by that warp.

Encoding is fixed: the residual, pixel-unshuffled. Decoding is learned and sees the warp and the landmarks at half
the picture's size, so that edges of lips, teeth and lids need not pass through the code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.networks.config import Tier


def encode(residual: Tensor, tier: Tier) -> Tensor:
    """Residual in -1..1 ``[*, 3, size, size]`` to a latent near unit deviation ``[*, latent, grid, grid]``.

    Unshuffled in two steps, because the decoder shuffles in two.
    """
    return F.pixel_unshuffle(F.pixel_unshuffle(residual, 2), tier.patch // 2) * tier.residual_scale


class GuidedDecoder(nn.Module):
    """Latent and guide to residual: the pixel shuffle, corrected at half size. 0.13 GMACs for ``live-256``."""

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        self.tier = tier
        self.enter = nn.Conv2d(12 + 12 + tier.raster, tier.guide, 3, padding=1)
        self.middle = nn.Conv2d(tier.guide, tier.guide, 3, padding=1)
        self.leave = nn.Conv2d(tier.guide, 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, latent: Tensor, shown: Tensor, raster: Tensor) -> Tensor:
        """``[B, latent, grid, grid]``, ``[B, 3, size, size]`` in -1..1, ``[B, 7, size/2, size/2]`` in 0..1 ->
        residual ``[B, 3, size, size]`` in -1..1.
        """
        return self.decode(latent, self.guide(shown, raster))

    def guide(self, shown: Tensor, raster: Tensor) -> Tensor:
        """What guides the decoding of a frame, ``[B, 19, size/2, size/2]``."""
        return torch.cat([F.pixel_unshuffle(shown, 2), raster], 1)

    def decode(self, latent: Tensor, guide: Tensor) -> Tensor:
        """Latent and guide to the residual."""
        plain = F.pixel_shuffle(latent, self.tier.patch // 2)  # [B, 12, size/2, size/2]
        x = F.silu(self.middle(F.silu(self.enter(torch.cat([plain, guide], 1)))))
        return F.pixel_shuffle(plain + self.leave(x), 2) / self.tier.residual_scale
