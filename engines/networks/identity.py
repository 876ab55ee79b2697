"""The identity encoder: a vector ``z_id`` of the person, independent of expression; it modulates every block of the
denoiser.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.networks.config import Tier


class IdentityEncoder(nn.Module):
    """Strided convolutions over the face without background, to a unit vector; trained by recognition
    (see ``engines.losses``).
    """

    face: Tensor  # [1, 1, 96, 96]

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        self.shrink = tier.size // 96
        layers: list[nn.Module] = []
        inputs = 3
        for width in tier.identity_widths:  # 96 -> 48 -> 24 -> 12 -> 6 -> 3 cells
            layers += [nn.Conv2d(inputs, width, 3, 2, 1), nn.GroupNorm(8, width), nn.SiLU()]
            inputs = width
        # Each place of the last grid has its own weight (Chen et al., "MobileFaceNets", 2018: global depthwise).
        layers += [nn.Conv2d(inputs, inputs, 3, groups=inputs), nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(inputs, tier.identity)
        # Mask out hair at the rim, collar and backdrop: they do not identify a person.
        y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
        inside = ((1.05 - torch.hypot(x / 0.82, (y - 0.08) / 0.96)) * 6).clamp(0, 1)
        self.register_buffer("face", inside[None, None], persistent=False)

    def forward(self, face: Tensor) -> Tensor:
        """``[B, 3, size, size]`` in -1..1 -> ``z_id [B, 512]``, L2-normalised."""
        x = F.avg_pool2d(face, self.shrink) if self.shrink > 1 else face
        # Normalise mean and contrast of each channel, because light and colour do not identify a person.
        middle = (x * self.face).sum((2, 3), keepdim=True) / self.face.sum()
        x = (x - middle) * self.face
        spread = ((x * x).sum((2, 3), keepdim=True) / self.face.sum()).sqrt()
        x = x / (spread + 0.05)
        return F.normalize(self.out(self.body(x)), dim=1)
