"""The weighted mean of models: ``python -m engines.mix OUT.npz A.pt 0.5 B.pt 0.5``.

Interpolating between a model trained on pixels and one trained with a critic gives any compromise of the two (Wang et
al., "ESRGAN", ECCV workshops 2018, network interpolation).
"""

import argparse
from pathlib import Path

import torch

from avatar_stream.errors import AvatarError, BadInput
from engines.checkpoint import keep_model, load_model
from engines.networks.model import Model


def mix(models: list[Model], shares: list[float]) -> Model:
    """The mean of ``models`` of one tier, weighted by ``shares``, which are normalised to a sum of 1.

    Raises :class:`BadInput` if the tiers differ.
    """
    if len({model.tier.name for model in models}) != 1:
        raise BadInput("the models are of different tiers: mix checkpoints of one tier")
    total = sum(shares)
    states = [model.state_dict() for model in models]
    mean = {
        name: torch.stack([state[name] * (share / total) for state, share in zip(states, shares, strict=True)]).sum(0)
        for name in states[0]
    }
    out = Model(models[0].tier)
    out.load_state_dict(mean)
    return out.eval()


def main(given: list[str] | None = None) -> None:
    """Run the command; bad input ends it with a one-line message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", metavar="CHECKPOINT SHARE")
    arguments = parser.parse_args(given)
    paths, shares = arguments.parts[::2], arguments.parts[1::2]
    try:
        if len(paths) != len(shares):
            raise BadInput("a checkpoint has no share: give one for each, as in A.pt 0.5 B.pt 0.5")
        keep_model(mix([load_model(Path(path)) for path in paths], [float(share) for share in shares]), arguments.out)
    except (AvatarError, ValueError) as error:
        raise SystemExit(f"engines.mix: {error}") from None


if __name__ == "__main__":
    main()
