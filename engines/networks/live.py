"""The live student: a landmark-conditioned denoiser of warp residuals over a rolling window.

Everything happens in the aligned face frame, 192 x 192. A latent is the residual between the face and its warp,
pixel-unshuffled by 6: 108 channels on a 32 x 32 grid, so the decoder is a pixel shuffle and fine detail stays in the
warp. ``B`` is the batch of sessions, ``N`` the window's slots.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LiveConfig:
    """Sizes of the ``live-256`` tier."""

    size: int = 192  # side of the aligned face
    patch: int = 6  # pixels a latent cell
    raster: int = 7  # landmark raster channels, drawn at half the size
    widths: tuple[int, int, int] = (64, 144, 256)  # at 32 x 32, 16 x 16 and 8 x 8 cells
    landmarks: int = 48  # landmark code channels
    reference: int = 48  # reference code channels
    identity: int = 512  # z_id
    embedding: int = 256  # of noise level and identity together
    heads: int = 8
    residual_scale: float = 4.0  # brings the residual, in -1..1, near unit deviation where it matters

    @property
    def latent(self) -> int:
        """Latent channels."""
        return 3 * self.patch**2

    @property
    def grid(self) -> int:
        """Latent cells a side."""
        return self.size // self.patch


def encode(image: Tensor, config: LiveConfig) -> Tensor:
    """Pixels ``[*, 3, 192, 192]`` to cells ``[*, 108, 32, 32]``."""
    return F.pixel_unshuffle(image, config.patch)


def decode(latent: Tensor, config: LiveConfig) -> Tensor:
    """Latent ``[*, 108, 32, 32]`` to the residual in pixels, -1..1, ``[*, 3, 192, 192]``."""
    return F.pixel_shuffle(latent, config.patch) / config.residual_scale


class Block(nn.Module):
    """Residual block, modulated by scale and shift from the embedding (FiLM)."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``x [*, inputs, h, w]``, ``embedding [*, e]`` -> ``[*, outputs, h, w]``."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class WindowAttention(nn.Module):
    """Attention of every slot's tokens to all slots of the window, both ways in time, and to the reference sink."""

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


class LandmarkEncoder(nn.Module):
    """Causal 3-D convolutions, streamed: each layer keeps its last input, so a frame is encoded once."""

    def __init__(self, config: LiveConfig) -> None:
        super().__init__()
        drawn = config.raster * 9  # the raster has 96 cells a side, three to a latent cell
        self.layers = nn.ModuleList(
            [nn.Conv2d(2 * drawn, 64, 3, padding=1), nn.Conv2d(2 * 64, config.landmarks, 3, padding=1)]
        )
        self.state_channels = (drawn, 64)

    def forward(self, raster: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """``raster [B, 7, 96, 96]`` in 0..1 -> code ``[B, landmarks, 32, 32]`` and the next state."""
        x = F.pixel_unshuffle(raster, 3)
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            after.append(x)
            x = F.silu(layer(torch.cat([before, x], 1)))
        return x, after

    def sequence(self, rasters: Tensor, wanted: int) -> Tensor:
        """``[B, T, 7, 96, 96]`` -> codes ``[B, wanted, landmarks, 32, 32]`` of the last frames, as if streamed.

        Each layer looks one frame back, so ``T`` must be at least ``wanted`` plus the number of layers.
        """
        x = F.pixel_unshuffle(rasters.flatten(0, 1), 3).unflatten(0, rasters.shape[:2])
        for depth, layer in enumerate(self.layers):
            keep = wanted + len(self.layers) - depth
            x = x[:, -keep:]
            pairs = torch.cat([x[:, :-1], x[:, 1:]], 2)  # [B, keep - 1, 2 c, 32, 32]
            x = F.silu(layer(pairs.flatten(0, 1))).unflatten(0, pairs.shape[:2])
        return x


class ReferenceEncoder(nn.Module):
    """The portrait's aligned face, once: code for the latent grid, sink tokens, and ``z_id``."""

    def __init__(self, config: LiveConfig) -> None:
        super().__init__()
        low, middle, deep = config.widths
        self.enter = nn.Conv2d(config.latent, low, 1)
        self.body = nn.ModuleList(
            [
                nn.Sequential(nn.SiLU(), nn.Conv2d(low, low, 3, padding=1), nn.GroupNorm(8, low), nn.SiLU()),
                nn.Sequential(nn.Conv2d(low, middle, 3, 2, 1), nn.GroupNorm(8, middle), nn.SiLU()),
                nn.Sequential(nn.Conv2d(middle, deep, 3, 2, 1), nn.GroupNorm(8, deep), nn.SiLU()),
            ]
        )
        self.code = nn.Conv2d(low, config.reference, 1)
        self.sink = nn.LayerNorm(deep)
        self.identity = nn.Linear(2 * deep, config.identity)
        self.config = config

    def forward(self, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, 3, 192, 192]`` in -1..1 -> code ``[B, r, 32, 32]``, sink ``[B, 64, deep]``, ``z_id [B, 512]``."""
        x = self.body[0](self.enter(encode(reference, self.config)))
        code = self.code(x)
        x = self.body[2](self.body[1](x))  # [B, deep, 8, 8]
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        z_id = F.normalize(self.identity(pooled), dim=1)
        return code, self.sink(x.flatten(2).transpose(1, 2)), z_id


class Denoiser(nn.Module):
    """U-Net over the slots; the slots meet in the attention of the deepest level."""

    def __init__(self, config: LiveConfig) -> None:
        super().__init__()
        low, middle, deep = config.widths
        e = config.embedding
        self.config = config
        self.enter = nn.Conv2d(config.latent + low, low, 1)
        self.down0 = Block(low, low, e)
        self.to1 = nn.Conv2d(low, middle, 3, 2, 1)
        self.down1 = nn.ModuleList([Block(middle, middle, e), Block(middle, middle, e)])
        self.to2 = nn.Conv2d(middle, deep, 3, 2, 1)
        self.deep1 = Block(deep, deep, e)
        self.attention = WindowAttention(deep, config.heads, (config.grid // 4) ** 2)
        self.deep2 = Block(deep, deep, e)
        self.up1 = nn.Conv2d(deep, 4 * middle, 1)
        self.join1 = Block(2 * middle, middle, e)
        self.up0 = nn.Conv2d(middle, 4 * low, 1)
        self.join0 = Block(2 * low, low, e)
        self.leave = nn.Sequential(nn.GroupNorm(8, low), nn.SiLU(), nn.Conv2d(low, config.latent, 3, padding=1))
        self.noise = nn.Sequential(nn.Linear(32, e), nn.SiLU(), nn.Linear(e, e))
        self.identity = nn.Linear(config.identity, e)
        nn.init.zeros_(self.leave[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, conditioning: Tensor, level: Tensor, z_id: Tensor, sink: Tensor) -> Tensor:
        """Clean latents from noisy ones.

        ``x [B, N, 108, 32, 32]``, ``conditioning [B, N, low, 32, 32]``, ``level [B, N]`` in 0..1, ``z_id [B, 512]``,
        ``sink [B, 64, deep]`` -> ``[B, N, 108, 32, 32]``.
        """
        batch, window = x.shape[:2]
        waves = level.reshape(-1, 1) * torch.exp(torch.arange(16, device=x.device) * 0.4)
        noise = self.noise(torch.cat([waves.sin(), waves.cos()], 1)).unflatten(0, (batch, window))
        embedding = F.silu(noise + self.identity(z_id * self.config.identity**0.5)[:, None]).flatten(0, 1)
        h = self.enter(torch.cat([x, conditioning], 2).flatten(0, 1))
        h0 = self.down0(h, embedding)
        h = self.to1(h0)
        for block in self.down1:
            h = block(h, embedding)
        h1 = h
        h = self.deep1(self.to2(h), embedding)
        h = self.deep2(self.attention(h, sink, window), embedding)
        h = self.join1(torch.cat([F.pixel_shuffle(self.up1(h), 2), h1], 1), embedding)
        h = self.join0(torch.cat([F.pixel_shuffle(self.up0(h), 2), h0], 1), embedding)
        return self.leave(h).unflatten(0, (batch, window))


class LiveModel(nn.Module):
    """Reference encoder, landmark encoder, conditioning and denoiser of one tier."""

    def __init__(self, config: LiveConfig) -> None:
        super().__init__()
        self.config = config
        self.reference = ReferenceEncoder(config)
        self.landmarks = LandmarkEncoder(config)
        self.denoiser = Denoiser(config)
        seen = config.latent + config.landmarks + config.reference
        self.condition = nn.Sequential(nn.Conv2d(seen, config.widths[0], 1), nn.SiLU())
        # Eyes and mouth are always in the same cells: where a cell lies says what it may become.
        self.place = nn.Parameter(torch.zeros(1, config.widths[0], config.grid, config.grid))

    def conditioning(self, shown: Tensor, landmarks: Tensor, code: Tensor) -> Tensor:
        """What a slot knows, fixed while it is denoised.

        ``shown [B, 3, 192, 192]`` in -1..1, ``landmarks [B, l, 32, 32]``, ``code [B, r, 32, 32]`` ->
        ``[B, low, 32, 32]``.
        """
        return self.condition(torch.cat([encode(shown, self.config), landmarks, code], 1)) + self.place


def noised(clean: Tensor, noise: Tensor, level: Tensor | float) -> Tensor:
    """Straight-line noising ``(1 - t) x0 + t e`` (Liu et al., "Rectified flow", ICLR 2023)."""
    return (1 - level) * clean + level * noise
