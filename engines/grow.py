"""Grow a trained model into a wider tier: ``python -m engines.grow FROM OUT.pt --tier teacher-256``.

Every channel of the wider model starts as a copy of a channel of the narrow one, and the next layer divides its
weights among the copies: the wider model computes what the narrow one did (Chen et al., "Net2Net", ICLR 2016). Copies
stay within their normalisation group and attention head. Uneven weights let copies diverge in training. If a group
does not double exactly, its statistics shift a little.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from avatar_stream.errors import AvatarError, BadInput
from engines.checkpoint import load_model, save_checkpoint
from engines.networks.config import TIERS, Tier
from engines.networks.denoiser import Block, WindowAttention
from engines.networks.model import Model

GROUP_COUNT = 8  # groups of every normalisation, and heads of the attention


@dataclass(frozen=True)
class ChannelMap:
    """Which of ``size`` narrow channels each wide channel copies: ``index [wide]``."""

    index: Tensor
    size: int

    def __add__(self, other: "ChannelMap") -> "ChannelMap":
        return ChannelMap(torch.cat([self.index, other.index + self.size]), self.size + other.size)

    def repeat_each(self, n: int) -> "ChannelMap":
        """Replace each channel by ``n`` adjacent ones, as a pixel shuffle reads them."""
        return ChannelMap((self.index[:, None] * n + torch.arange(n)).flatten(), self.size * n)

    def shares(self) -> Tensor:
        """Random positive weights ``[wide]`` that sum to 1 over the copies of each narrow channel."""
        drawn = torch.rand(len(self.index)) + 0.5
        return drawn / torch.zeros(self.size).index_add(0, self.index, drawn)[self.index]


def same_channels(size: int) -> ChannelMap:
    """Channels that are the same in both models."""
    return ChannelMap(torch.arange(size), size)


def widen_channels(narrow: int, wide: int, groups: int = GROUP_COUNT) -> ChannelMap:
    """Map ``wide`` channels to ``narrow`` ones within each of ``groups`` equal groups."""
    each, new = narrow // groups, wide // groups
    index = torch.arange(groups)[:, None] * each + torch.arange(new)[None] % each
    return ChannelMap(index.flatten(), narrow)


def grow(model: Model, tier: Tier) -> Model:
    """The model widened to ``tier``, which must be at least as wide everywhere; raises :class:`BadInput` if the tiers
    differ in more than width.
    """
    old = model.tier
    same = ("size", "patch", "raster", "identity", "identity_widths", "heads")
    if any(getattr(old, name) != getattr(tier, name) for name in same):
        raise BadInput(
            f"{old.name} cannot grow into {tier.name}: they differ in more than width; choose another --tier"
        )
    low, middle, deep = (widen_channels(a, b) for a, b in zip(old.widths, tier.widths, strict=True))
    landmarks = widen_channels(old.landmarks, tier.landmarks, 1)
    reference = widen_channels(old.reference, tier.reference, 1)
    embedding, guide = widen_channels(old.embedding, tier.embedding, 1), widen_channels(old.guide, tier.guide, 1)
    latent = same_channels(tier.latent)
    out = Model(tier)
    out.identity.load_state_dict(model.identity.state_dict())
    put = _put_weights

    def block(source: Block, target: Block, inputs: ChannelMap, outputs: ChannelMap) -> None:
        _put_norm(source.norm1, target.norm1, inputs)
        put(source.conv1, target.conv1, inputs, outputs)
        _put_norm(source.norm2, target.norm2, outputs)
        put(source.conv2, target.conv2, outputs, outputs)
        put(source.modulation, target.modulation, embedding, outputs + outputs)
        if isinstance(source.skip, nn.Conv2d):
            put(source.skip, target.skip, inputs, outputs)

    a, b = model.reference, out.reference
    put(a.enter, b.enter, latent, low)
    for part, (inputs, outputs) in enumerate(((low, low), (low, middle), (middle, deep))):
        for source, target in zip(a.body[part], b.body[part], strict=True):
            if isinstance(source, nn.Conv2d):
                put(source, target, inputs, outputs)
            elif isinstance(source, nn.GroupNorm):
                _put_norm(source, target, outputs)
    put(a.code, b.code, low, reference)
    _put_norm(a.sink, b.sink, deep)

    drawn, inner = model.landmarks.state_channels
    put(model.landmarks.layers[0], out.landmarks.layers[0], same_channels(2 * drawn), same_channels(inner))
    put(model.landmarks.layers[1], out.landmarks.layers[1], same_channels(2 * inner), landmarks)
    put(model.condition[0], out.condition[0], latent + landmarks + reference, low)
    out.place.data = model.place.data[:, low.index]

    d, e = model.denoiser, out.denoiser
    put(d.enter, e.enter, latent + low, low)
    block(d.down0, e.down0, low, low)
    put(d.to1, e.to1, low, middle)
    for source, target in zip(d.down1, e.down1, strict=True):
        block(source, target, middle, middle)  # type: ignore[arg-type]
    put(d.to2, e.to2, middle, deep)
    block(d.deep1, e.deep1, deep, deep)
    _put_attention(d.attention, e.attention, deep)
    block(d.deep2, e.deep2, deep, deep)
    put(d.up1, e.up1, deep, middle.repeat_each(4))
    block(d.join1, e.join1, middle + middle, middle)
    put(d.up0, e.up0, middle, low.repeat_each(4))
    block(d.join0, e.join0, low + low, low)
    _put_norm(d.leave[0], e.leave[0], low)
    put(d.leave[2], e.leave[2], low, latent)
    put(d.noise[0], e.noise[0], same_channels(32), embedding)
    put(d.noise[2], e.noise[2], embedding, embedding)
    put(d.identity, e.identity, same_channels(tier.identity), embedding)

    seen = model.decoder.enter.in_channels
    put(model.decoder.enter, out.decoder.enter, same_channels(seen), guide)
    put(model.decoder.middle, out.decoder.middle, guide, guide)
    put(model.decoder.leave, out.decoder.leave, guide, same_channels(12))
    return out


def _put_weights(source: nn.Module, target: nn.Module, inputs: ChannelMap, outputs: ChannelMap) -> None:
    weight = source.weight.data[outputs.index][:, inputs.index]
    shares = inputs.shares().reshape(1, -1, *[1] * (weight.dim() - 2))
    _set(target, "weight", weight * shares)
    _set(target, "bias", source.bias.data[outputs.index])


def _put_norm(source: nn.Module, target: nn.Module, channels: ChannelMap) -> None:
    _set(target, "weight", source.weight.data[channels.index])
    _set(target, "bias", source.bias.data[channels.index])


def _put_attention(source: WindowAttention, target: WindowAttention, channels: ChannelMap) -> None:
    """Widen attention. New query channels start at zero: copies would count twice in the product with the keys."""
    _put_norm(source.norm, target.norm, channels)
    target.place.data = source.place.data[:, channels.index]
    _put_weights(source.query, target.query, channels, channels)
    each = channels.size // GROUP_COUNT
    wide = len(channels.index) // GROUP_COUNT
    original = (torch.arange(GROUP_COUNT * wide) % wide < each).float()
    scale = original * (wide / each) ** 0.5  # attention divides by the root of a head's width
    target.query.weight.data *= scale[:, None]
    target.query.bias.data *= scale
    _put_weights(source.key_value, target.key_value, channels, channels + channels)
    _put_weights(source.out, target.out, channels, channels)


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    parameter = getattr(module, name)
    assert parameter.shape == value.shape, (parameter.shape, value.shape)
    parameter.data = value.clone()


def main(given: list[str] | None = None) -> None:
    """Run the command; bad input ends it with a one-line message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tier", choices=list(TIERS), default="teacher-256")
    arguments = parser.parse_args(given)
    try:
        wide = grow(load_model(arguments.source), TIERS[arguments.tier])
    except AvatarError as error:
        raise SystemExit(f"engines.grow: {error}") from None
    state = wide.state_dict()
    save_checkpoint(arguments.out, {"tier": asdict(wide.tier), "average": state})
    print(f"{arguments.out}: {sum(p.numel() for p in wide.parameters()) / 1e6:.1f} M parameters, {arguments.tier}")


if __name__ == "__main__":
    main()
