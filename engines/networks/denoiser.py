"""The denoiser: a small U-Net over the slots of the rolling window; its deepest level has attention across slots."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.networks.config import Tier


class Block(nn.Module):
    """Residual block, modulated by scale and shift from the embedding (Perez et al., "FiLM", AAAI 2018)."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)  # input: level and identity; run by Denoiser.modulations
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """``x [*, inputs, h, w]``, ``modulation [*, 2 * outputs]`` -> ``[*, outputs, h, w]``."""
        scale, shift = modulation[:, :, None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class WindowAttention(nn.Module):
    """Attention of every slot's tokens to all slots of the window (past and future) and to the reference sink."""

    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.place = nn.Parameter(torch.randn(tokens, width) * 0.02)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, sink: Tensor, window: int) -> Tensor:
        """``x [B*N, c, h, w]``, ``sink [B, h*w, c]`` (normalised) -> like ``x``."""
        slots, width, height, columns = x.shape
        batch = slots // window
        tokens = self.norm(x.flatten(2).transpose(1, 2)) + self.place  # [B*N, h*w, c]
        tokens = tokens.reshape(batch, window * height * columns, width)
        seen = torch.cat([tokens, sink + self.place], 1)  # [B, (N+1)*h*w, c]

        def split(y: Tensor) -> Tensor:
            return y.reshape(batch, -1, self.heads, width // self.heads).transpose(1, 2)

        key, value = self.key_value(seen).chunk(2, 2)
        query = split(self.query(tokens)) * (width // self.heads) ** -0.5
        weights = (query @ split(key).transpose(2, 3)).softmax(-1)
        mixed = (weights @ split(value)).transpose(1, 2).reshape(slots, height * columns, width)
        return x + self.out(mixed).transpose(1, 2).reshape(slots, width, height, columns)


class Denoiser(nn.Module):
    """Predicts clean latents from noisy ones; every slot has its own noise level."""

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        low, middle, deep = tier.widths
        e = tier.embedding
        self.tier = tier
        self.enter = nn.Conv2d(tier.latent + low, low, 1)
        self.down0 = Block(low, low, e)
        self.to1 = nn.Conv2d(low, middle, 3, 2, 1)
        self.down1 = nn.ModuleList([Block(middle, middle, e), Block(middle, middle, e)])
        self.to2 = nn.Conv2d(middle, deep, 3, 2, 1)
        self.deep1 = Block(deep, deep, e)
        self.attention = WindowAttention(deep, tier.heads, (tier.grid // 4) ** 2)
        self.deep2 = Block(deep, deep, e)
        self.up1 = nn.Conv2d(deep, 4 * middle, 1)
        self.join1 = Block(2 * middle, middle, e)
        self.up0 = nn.Conv2d(middle, 4 * low, 1)
        self.join0 = Block(2 * low, low, e)
        self.leave = nn.Sequential(nn.GroupNorm(8, low), nn.SiLU(), nn.Conv2d(low, tier.latent, 3, padding=1))
        self.noise = nn.Sequential(nn.Linear(32, e), nn.SiLU(), nn.Linear(e, e))
        self.identity = nn.Linear(tier.identity, e)
        nn.init.zeros_(
            self.identity.weight
        )  # motion is trained without identity, so identity must start without effect
        nn.init.zeros_(self.leave[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, conditioning: Tensor, level: Tensor, z_id: Tensor, sink: Tensor) -> Tensor:
        """``x [B, N, latent, grid, grid]``, ``conditioning [B, N, low, grid, grid]``, ``level [B, N]`` in 0..1,
        ``z_id [B, 512]``, ``sink [B, (grid/4)^2, deep]`` -> ``[B, N, latent, grid, grid]``.
        """
        return self.denoise(x, conditioning, self.modulations(level, z_id), sink)

    def modulations(self, level: Tensor, z_id: Tensor) -> Tensor:
        """Modulation of all blocks, ``[B, N, m]``, for noise levels ``[B, N]`` and identity ``[B, 512]``.

        A running window's levels never change, so this runs once per portrait.
        """
        waves = level.reshape(-1, 1) * torch.exp(torch.arange(16, device=level.device) * 0.4)
        noise = self.noise(torch.cat([waves.sin(), waves.cos()], 1)).unflatten(0, level.shape)
        embedding = F.silu(noise + self.identity(z_id * self.tier.identity**0.5)[:, None])
        return torch.cat([block.modulation(embedding) for block in self._blocks()], 2)

    def denoise(self, x: Tensor, conditioning: Tensor, modulation: Tensor, sink: Tensor) -> Tensor:
        """See :meth:`forward`; ``modulation [B, N, m]`` is the result of :meth:`modulations`."""
        batch, window = x.shape[:2]
        sizes = [block.modulation.out_features for block in self._blocks()]
        down0, down1a, down1b, deep1, deep2, join1, join0 = modulation.flatten(0, 1).split(sizes, 1)
        h = self.enter(torch.cat([x, conditioning], 2).flatten(0, 1))
        h0 = self.down0(h, down0)
        h1 = self.down1[1](self.down1[0](self.to1(h0), down1a), down1b)
        h = self.deep1(self.to2(h1), deep1)
        h = self.deep2(self.attention(h, sink, window), deep2)
        h = self.join1(torch.cat([F.pixel_shuffle(self.up1(h), 2), h1], 1), join1)
        h = self.join0(torch.cat([F.pixel_shuffle(self.up0(h), 2), h0], 1), join0)
        return self.leave(h).unflatten(0, (batch, window))

    def _blocks(self) -> list[Block]:
        named = (self.down0, *self.down1, self.deep1, self.deep2, self.join1, self.join0)
        return [block for block in named if isinstance(block, Block)]
