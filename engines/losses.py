"""Losses of training: pixels (mainly where a warp lacks information), identity, and a critic of mouth and eyes."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pixel_weights(raster: Tensor, size: int) -> Tensor:
    """Weights of pixels, highest where a warp lacks information: ``[B, 7, s/2, s/2]`` -> ``[B, 1, s, s]``."""
    hole, lips, eyes, iris, unknown = (raster[:, k : k + 1] for k in (0, 1, 2, 3, 6))
    side = raster.shape[-1]
    ground = raster.new_full((1, 1, side, side), 0.35)
    ground[..., side // 12 :, side // 10 : -(side // 10)] = 0.8
    weight = ground + 4.0 * hole + 1.5 * lips + 2.5 * eyes + 1.0 * iris + 1.0 * unknown
    return F.interpolate(F.avg_pool2d(weight, 3, 1, 1), (size, size), mode="bilinear")


def charbonnier(error: Tensor, width: float) -> Tensor:
    """Quadratic up to about ``width``, then linear (Charbonnier et al., 1994)."""
    return (error * error + width * width).sqrt() - width


def reconstruction(picture: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted Charbonnier on pixels and, for edges, on their differences; pictures ``[B, 3, s, s]`` in -1..1.

    The pixel term is quadratic up to about 80 grey levels, because from pure noise the mean is the best first guess.
    """
    error = picture - target
    across = error[..., 1:] - error[..., :-1]
    down = error[..., 1:, :] - error[..., :-1, :]
    return (
        (charbonnier(error, 0.6) * weight).mean()
        + 0.04 * (charbonnier(across, 0.06) * weight[..., 1:]).mean()
        + 0.04 * (charbonnier(down, 0.06) * weight[..., 1:, :]).mean()
    ) / 0.05


class Recognition(nn.Module):
    """Large-margin cosine loss over the training people (Wang et al., "CosFace", CVPR 2018).

    Makes ``z_id`` equal across frames of a person and different between people; not needed after training.
    """

    def __init__(self, people: int, identity: int, margin: float = 0.25, scale: float = 24.0) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(people, identity) * 0.05)
        self.margin, self.scale = margin, scale

    def forward(self, z_id: Tensor, person: Tensor) -> Tensor:
        """``z_id [B, 512]`` (unit length), ``person [B]`` -> scalar."""
        cosine = z_id @ F.normalize(self.centres, dim=1).T
        own = F.one_hot(person, len(self.centres)).to(cosine.dtype)
        return F.cross_entropy(self.scale * (cosine - self.margin * own), person)


class CriticOutput(NamedTuple):
    """A critic's output for pictures, by patch."""

    scores: Tensor  # [B, P] realness
    weight: Tensor  # [B, P] how much of the patch is painted, 0..1
    features: list[Tensor]  # of each layer and band
    weights: list[Tensor]  # of these features


class Critic(nn.Module):
    """Patch discriminator of mouth and eyes (Isola et al., "pix2pix", CVPR 2017), conditioned on landmarks and warp.

    Only painted pixels count: elsewhere a warp always differs a little from the truth, which would reveal it.
    """

    BANDS = ((0.26, 0.48, 0.12, 0.88), (0.62, 0.96, 0.18, 0.82))  # eyes and mouth: top, bottom, left, right

    def __init__(self, raster: int, width: int = 48) -> None:
        super().__init__()
        inputs = 6 + raster
        self.layers = nn.ModuleList()
        for outputs, stride in ((width, 2), (2 * width, 2), (3 * width, 1)):
            layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(inputs, outputs, 4, stride, 1))
            self.layers.append(nn.Sequential(layer, nn.LeakyReLU(0.2)))
            inputs = outputs
        self.score = nn.Conv2d(inputs, 1, 3, 1, 1)

    def forward(self, picture: Tensor, shown: Tensor, raster: Tensor, gate: Tensor) -> CriticOutput:
        """``picture`` and ``shown [B, 3, s, s]``, ``raster [B, 7, s/2, s/2]``, ``gate [B, 1, s, s]``."""
        size = picture.shape[-1]
        everything = torch.cat([picture, shown, F.interpolate(raster, (size, size), mode="nearest"), gate], 1)
        scores, score_weights, features, weights = [], [], [], []
        for band in self.BANDS:
            top, bottom, left, right = (round(v * size) for v in band)
            region = everything[..., top:bottom, left:right]
            x, painted = region[:, :-1], region[:, -1:]
            for layer in self.layers:
                x = layer(x)
                features.append(x)
                weights.append(F.adaptive_avg_pool2d(painted, x.shape[-2:]))
            scores.append(self.score(x).flatten(1))
            score_weights.append(weights[-1].flatten(1))
        return CriticOutput(torch.cat(scores, 1), torch.cat(score_weights, 1), features, weights)


def critic_loss(real: CriticOutput, fake: CriticOutput) -> Tensor:
    """Hinge loss of the critic."""
    return _mean(F.relu(1 - real.scores) + F.relu(1 + fake.scores), real.weight)


def generator_loss(fake: CriticOutput) -> Tensor:
    """Hinge loss of the generator: it falls as the critic takes painted patches for real."""
    return _mean(-fake.scores, fake.weight)


def feature_matching_loss(real: CriticOutput, fake: CriticOutput) -> Tensor:
    """Distance between painted and true pictures in the critic's features (Wang et al., "pix2pixHD", CVPR 2018).

    Each layer's distance is relative to the mean size of its features.
    """
    total = real.scores.new_zeros(())
    for a, b, weight in zip(real.features, fake.features, real.weights, strict=True):
        a = a.detach()
        total = total + _mean((a - b).abs(), weight) / _mean(a.abs(), weight).clamp(min=1e-3)
    return total / len(real.features)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=1)
