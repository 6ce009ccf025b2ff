"""Save a fit between epochs as safetensors, and take it up again. Nothing is pickled."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What else a checkpoint held: the best weights so far and the caller's note."""

    best: dict[str, Tensor]
    note: str


def save_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor], note: str
) -> None:
    """Write weights, Adam's moments, the best weights and a note, in one rename."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {f"model/{k}": v.detach().contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"best/{k}": v.contiguous() for k, v in best.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{index}/{slot}": torch.as_tensor(value).clone() for slot, value in slots.items()}
    temporary = directory / f".{FILE}"
    save_file({k: v.clone() for k, v in tensors.items()}, temporary, metadata={"note": note})
    os.replace(temporary, directory / FILE)


def load_checkpoint(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Checkpoint | None:
    """Restore model and optimizer in place; None where nothing was saved."""
    path = directory / FILE
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        note = file.metadata()["note"]
    model.load_state_dict(_part(tensors, "model/"))
    state = optimizer.state_dict()
    state["state"] = {}
    for key, value in _part(tensors, "adam/").items():
        index, slot = key.split("/")
        state["state"].setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict(state)
    return Checkpoint(_part(tensors, "best/"), note)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
