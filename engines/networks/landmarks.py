"""The landmark encoder: causal 3-D convolutions over the raster. It keeps state, so each frame is encoded once."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.networks.config import Tier


class LandmarkEncoder(nn.Module):
    """Each layer sees the current and the previous frame (kernel 2 in time) and keeps its last input as state."""

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        self.cells = tier.patch // 2  # raster cells per latent cell, along a side
        drawn = tier.raster * self.cells**2
        self.layers = nn.ModuleList(
            [nn.Conv2d(2 * drawn, 64, 3, padding=1), nn.Conv2d(2 * 64, tier.landmarks, 3, padding=1)]
        )
        self.state_channels = (drawn, 64)

    def forward(self, raster: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """``raster [B, 7, size/2, size/2]`` in 0..1 -> code ``[B, landmarks, grid, grid]`` and the next state."""
        x = F.pixel_unshuffle(raster, self.cells)
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            after.append(x)
            x = F.silu(layer(torch.cat([before, x], 1)))
        return x, after

    def sequence(self, rasters: Tensor, wanted: int) -> Tensor:
        """``[B, T, 7, size/2, size/2]`` -> codes ``[B, wanted, landmarks, grid, grid]`` of the last frames.

        The result is the same as frame by frame. Each layer looks one frame back, so ``T`` must be at least
        ``wanted`` plus the number of layers.
        """
        x = F.pixel_unshuffle(rasters.flatten(0, 1), self.cells).unflatten(0, rasters.shape[:2])
        for depth, layer in enumerate(self.layers):
            keep = wanted + len(self.layers) - depth
            x = x[:, -keep:]
            pairs = torch.cat([x[:, :-1], x[:, 1:]], 2)  # [B, keep - 1, 2 c, grid, grid]
            x = F.silu(layer(pairs.flatten(0, 1))).unflatten(0, pairs.shape[:2])
        return x
