"""The identity encoder: who an aligned face is, whatever it does. ``z_id`` modulates the denoiser in every block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.networks.config import Tier


class IdentityEncoder(nn.Module):
    """Strided convolutions to a unit vector; trained by recognition (see ``engines.losses``)."""

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        self.shrink = tier.size // 96
        layers: list[nn.Module] = []
        inputs = 3
        for width in tier.identity_widths:  # 96 -> 48 -> 24 -> 12 -> 6 -> 3 cells
            layers += [nn.Conv2d(inputs, width, 3, 2, 1), nn.GroupNorm(8, width), nn.SiLU()]
            inputs = width
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(9 * inputs, tier.identity)

    def forward(self, face: Tensor) -> Tensor:
        """``[B, 3, size, size]`` in -1..1 -> ``z_id [B, 512]``, L2-normalised."""
        x = F.avg_pool2d(face, self.shrink) if self.shrink > 1 else face
        # Light and colour of a picture are not the person's: each channel is brought to its own mean and contrast.
        middle = x.mean((2, 3), keepdim=True)
        spread = ((x - middle) ** 2).mean((2, 3), keepdim=True).sqrt()
        x = (x - middle) / (spread + 0.05)
        return F.normalize(self.out(torch.flatten(self.body(x), 1)), dim=1)
