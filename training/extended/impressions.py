"""Logged slates: what a shopper was shown, where it stood, and what was clicked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import DataError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Impressions:
    """n slates of S items each; aligned arrays, in the order in which they were shown."""

    features: Floats
    """(n, S, F) what the re-ranker knows of a shopper and an item: scores, likeness to the history, popularity."""
    position: npt.NDArray[np.int64]
    """(n, S) 0 is the top of the slate."""
    click: Floats
    """(n, S) 1 where it was clicked."""

    def __len__(self) -> int:
        return len(self.click)

    def where(self, keep: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> Impressions:
        """Some slates."""
        return Impressions(self.features[keep], self.position[keep], self.click[keep])


def save_impressions(impressions: Impressions, path: Path) -> None:
    """Write them as `.npz`: features, position, click."""
    np.savez(path, features=impressions.features, position=impressions.position, click=impressions.click)


def load_impressions(path: Path) -> Impressions:
    """Read what `save_impressions` wrote. Raises DataError where it is none or its parts do not fit together."""
    todo = "Write features (n, S, F), position (n, S) from 0 and click (n, S) of 0 and 1 with numpy.savez"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            features, position, click = (arrays[name] for name in ("features", "position", "click"))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"no logged slates ({error})", where=str(path), todo=todo) from error
    if features.ndim != 3 or position.shape != features.shape[:2] or click.shape != features.shape[:2]:
        shapes = f"features {features.shape}, position {position.shape}, click {click.shape}"
        raise DataError(f"shapes do not fit together: {shapes}", where=str(path), todo=todo)
    if not np.isfinite(features).all() or not np.isin(click, (0, 1)).all() or (position < 0).any():
        raise DataError("features must be finite, clicks 0 or 1, positions from 0", where=str(path), todo=todo)
    return Impressions(features.astype(np.float32), position.astype(np.int64), click.astype(np.float32))


def clicked(
    preference: npt.NDArray[np.float64], examination: npt.NDArray[np.float64], rng: np.random.Generator
) -> Floats:
    """Clicks of the position-based model: an item is clicked where it is looked at and liked.

    Probabilities `preference` (n, S) of a click once looked at, by position, and `examination` (S,) of a look
    (Craswell et al. 2008) -> (n, S) of 0 and 1.
    """
    return (rng.random(preference.shape) < preference * examination).astype(np.float32)
