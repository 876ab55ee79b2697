"""What training asks for: the right pixels where a warp is blind, the same person, a believable mouth."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pixel_weights(raster: Tensor, size: int) -> Tensor:
    """Where a warp is blind weighs most: ``[B, 7, s/2, s/2]`` -> ``[B, 1, s, s]``."""
    hole, lips, eyes, iris, unknown = (raster[:, k : k + 1] for k in (0, 1, 2, 3, 6))
    side = raster.shape[-1]
    ground = raster.new_full((1, 1, side, side), 0.35)
    ground[..., side // 12 :, side // 10 : -(side // 10)] = 0.8
    weight = ground + 4.0 * hole + 1.5 * lips + 2.5 * eyes + 1.0 * iris + 1.0 * unknown
    return F.interpolate(F.avg_pool2d(weight, 3, 1, 1), (size, size), mode="bilinear")


def charbonnier(error: Tensor, width: float) -> Tensor:
    """Quadratic up to about ``width``, then straight (Charbonnier et al., 1994)."""
    return (error * error + width * width).sqrt() - width


def reconstruction(picture: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted Charbonnier on pixels and, for edges, on their differences; pictures ``[B, 3, s, s]`` in -1..1.

    The pixel term is quadratic up to about 80 grey levels: from pure noise the mean is the best first guess.
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

    Makes ``z_id`` the same for a person across frames and different across people; thrown away after training.
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


class Critic(nn.Module):
    """Patch discriminator of mouth and eyes (Isola et al., "pix2pix", CVPR 2017), told the landmarks and the warp."""

    BANDS = ((0.26, 0.48, 0.12, 0.88), (0.62, 0.96, 0.18, 0.82))  # eyes and mouth: top, bottom, left, right

    def __init__(self, raster: int, width: int = 48) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 6 + raster
        for outputs, stride in ((width, 2), (2 * width, 2), (3 * width, 1)):
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(inputs, outputs, 4, stride, 1))]
            layers += [nn.LeakyReLU(0.2)]
            inputs = outputs
        self.body = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 3, 1, 1))

    def forward(self, picture: Tensor, shown: Tensor, raster: Tensor) -> Tensor:
        """``[B, 3, s, s]`` twice and ``[B, 7, s/2, s/2]`` -> realness of every patch of both bands, flat."""
        size = picture.shape[-1]
        x = torch.cat([picture, shown, F.interpolate(raster, (size, size), mode="nearest")], 1)
        judged = []
        for band in self.BANDS:
            top, bottom, left, right = (round(v * size) for v in band)
            judged.append(self.body(x[..., top:bottom, left:right]).flatten(1))
        return torch.cat(judged, 1)


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the critic."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
