"""The two embedding stages' tables side by side: what the fusion reads of each item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from offline_jobs.array_types import BoolArray, FloatArray, RowArray
from service.errors import DataError


@dataclass(frozen=True)
class ItemVectors:
    """text (items, 384), image (items, 512), unit or zero rows, and which are present (items,)."""

    text: FloatArray
    image: FloatArray
    text_present: BoolArray
    image_present: BoolArray

    def __len__(self) -> int:
        return len(self.text)

    @property
    def present(self) -> BoolArray:
        """Items (items,) with at least one modality."""
        return self.text_present | self.image_present

    def inputs(self, rows: RowArray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The network's four inputs for some item rows, in the order of `fusion_model.INPUTS`."""
        return (
            torch.from_numpy(self.text[rows]),
            torch.from_numpy(self.image[rows]),
            torch.from_numpy(self.text_present[rows, None].astype(np.float32)),
            torch.from_numpy(self.image_present[rows, None].astype(np.float32)),
        )


def read_vectors(text_directory: Path, image_directory: Path) -> ItemVectors:
    """The two embedding stages' tables. DataError where they are not of the same items."""
    vectors = ItemVectors(
        np.load(text_directory / "vectors.npy").astype(np.float32, copy=False),
        np.load(image_directory / "vectors.npy").astype(np.float32, copy=False),
        np.load(text_directory / "present.npy"),
        np.load(image_directory / "present.npy"),
    )
    lengths = {len(vectors.text), len(vectors.image), len(vectors.text_present), len(vectors.image_present)}
    if len(lengths) != 1:
        raise DataError(
            f"the text and image vectors are of different items ({sorted(lengths)} rows)",
            where=f"{text_directory} and {image_directory}",
            todo="Run both embedding stages again on the same ingest",
        )
    return vectors
