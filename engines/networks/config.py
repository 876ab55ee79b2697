"""The tiers: one frozen dataclass each with the sizes of every network."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tier:
    """Sizes of one model. The defaults are ``live-256``, the released student."""

    name: str = "live-256"
    size: int = 192  # side of the aligned face in pixels
    patch: int = 6  # pixels per latent cell; even
    raster: int = 7  # landmark raster channels, drawn at half the size
    widths: tuple[int, int, int] = (64, 144, 256)  # at the latent grid, its half and its quarter
    landmarks: int = 48  # landmark code channels
    reference: int = 48  # reference code channels
    guide: int = 24  # channels of the decoder, at half the size
    identity: int = 512  # z_id
    identity_widths: tuple[int, ...] = (24, 48, 96, 160, 224)
    embedding: int = 256  # of noise level and identity together
    heads: int = 8
    steps: int = 2  # denoising steps it is made for
    residual_scale: float = 4.0  # scales the residual (in -1..1) to about unit deviation at mouth and eyes

    @property
    def latent(self) -> int:
        """Latent channels."""
        return 3 * self.patch**2

    @property
    def grid(self) -> int:
        """Latent cells per side."""
        return self.size // self.patch

    @property
    def raster_size(self) -> int:
        """Landmark raster cells per side."""
        return self.size // 2


LIVE_256 = Tier()
# Twice the side of the aligned face; larger patches keep the grid, and so the attention, small.
LIVE_512 = Tier(name="live-512", size=384, patch=8, widths=(96, 176, 288), landmarks=64, reference=64, guide=24)
TEACHER_256 = Tier(
    name="teacher-256",
    widths=(112, 224, 384),
    landmarks=64,
    reference=64,
    guide=32,
    embedding=320,
    steps=4,
)
# For tests only.
TOY = Tier(
    name="toy",
    widths=(24, 32, 48),
    landmarks=16,
    reference=16,
    guide=12,
    identity_widths=(16, 16, 32, 32, 32),
    embedding=48,
    heads=2,
)
TIERS = {tier.name: tier for tier in (LIVE_256, LIVE_512, TEACHER_256, TOY)}
