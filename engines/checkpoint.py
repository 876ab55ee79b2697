"""Training checkpoints, and small fp16 checkpoints in the repository that later trainings start from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar_stream.errors import BadInput
from engines.networks.config import TIERS
from engines.networks.model import Model


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write atomically, so that a killed run leaves the previous checkpoint intact."""
    new = path.with_suffix(".new")
    torch.save(state, new)
    new.rename(path)


def load_checkpoint(path: Path, tier: str | None = None) -> dict[str, Any]:
    """A checkpoint's state; raises :class:`BadInput` if the file is missing or of another tier."""
    if not path.is_file():
        raise BadInput(f"there is no checkpoint {path}: check the path")
    saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    name = saved["tier"]["name"]
    if tier is not None and name != tier:
        raise BadInput(f"{path} is a checkpoint of {name}, not of {tier}")
    return saved


def load_model(path: Path, tier: str | None = None) -> Model:
    """The averaged weights of a training checkpoint (``.pt``) or of a kept one (``.npz``), in evaluation mode.

    Raises :class:`BadInput` if the checkpoint is of another tier.
    """
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
    """Store only the weights, rounded to fp16, for later trainings to start from."""
    arrays = {name: value.detach().numpy().astype(np.float16) for name, value in model.state_dict().items()}
    np.savez(path, tier=np.array(model.tier.name), **arrays)
