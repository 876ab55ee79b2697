"""Checkpoints of training, and the small ones that are kept with the project to go on from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar_stream.errors import BadInput
from engines.networks.config import TIERS
from engines.networks.model import Model


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write atomically: a stopped run leaves the last whole checkpoint."""
    new = path.with_suffix(".new")
    torch.save(state, new)
    new.rename(path)


def load_checkpoint(path: Path, tier: str | None = None) -> dict[str, Any]:
    """A checkpoint's state; :class:`BadInput` if it is missing or of another tier."""
    if not path.is_file():
        raise BadInput(f"no checkpoint {path}")
    saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    name = saved["tier"]["name"]
    if tier is not None and name != tier:
        raise BadInput(f"{path} is a checkpoint of {name}, not of {tier}")
    return saved


def load_model(path: Path, tier: str | None = None) -> Model:
    """The averaged weights of a training checkpoint (``.pt``) or of a kept one (``.npz``), ready to run."""
    if path.suffix == ".npz":
        with np.load(path) as stored:
            name = str(stored["tier"])
            state = {k: torch.from_numpy(stored[k].astype(np.float32)) for k in stored.files if k != "tier"}
    else:
        saved = load_checkpoint(path)
        name, state = saved["tier"]["name"], saved["average"]
    if tier is not None and name != tier:
        raise BadInput(f"{path} is a checkpoint of {name}, not of {tier}")
    model = Model(TIERS[name])
    model.load_state_dict(state)
    return model.eval()


def keep_model(model: Model, path: Path) -> None:
    """Store the weights alone, rounded to fp16: what a later training starts from."""
    arrays = {name: value.detach().numpy().astype(np.float16) for name, value in model.state_dict().items()}
    np.savez(path, tier=np.array(model.tier.name), **arrays)
