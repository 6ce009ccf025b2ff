"""Fit the click and ranking heads on logged slates: slates that the fit does not see choose the epochs."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from training.extended.click_metrics import calibration_error, grouped_auc, log_loss
from training.extended.impressions import Floats, Impressions
from training.extended.multi_task import MultiTask, click_loss, rank_loss
from training.threads import torch_threads

Heads = Literal["both", "click", "rank"]


class MultiTaskSettings(BaseModel):
    """How the two heads are built and fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    heads: Heads = "both"
    """Which losses the fit sees: click, rank or both."""
    rank_weight: float = Field(0.3, gt=0)
    """Weight of the ranking loss beside the click loss, where both are seen."""
    debias: bool = True
    """Let an item's place in the slate explain its clicks; off, only for comparison, what stood at the top is liked."""
    experts: int = Field(4, ge=1)
    """Experts that the heads share."""
    hidden: int = Field(32, ge=2)
    """Width of an expert."""
    learning_rate: float = Field(0.003, gt=0)
    """AdamW's step size."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    batch_size: int = Field(128, ge=1)
    """Slates a step."""
    max_epochs: int = Field(40, ge=1)
    """Most epochs; the validation slates choose how many are kept."""
    patience: int = Field(5, ge=1)
    """Epochs without a better validation loss before fitting stops."""
    seed: int = 0
    """Seeds weights and batches."""


@dataclass
class TwoCurves:
    """The loss after each epoch."""

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def best_epochs(self) -> int:
        """Number of epochs with the lowest validation loss."""
        return int(np.argmin(self.validation)) + 1


def fit_multi_task(
    train: Impressions, validation: Impressions, settings: MultiTaskSettings
) -> tuple[MultiTask, TwoCurves]:
    """Fit on `train`; keep the epoch with the lowest loss on `validation`. The same seed gives the same bits."""
    torch.manual_seed(settings.seed)
    places = 1 + int(max(train.position.max(), validation.position.max()))
    model = MultiTask(
        num_features=train.features.shape[2], num_places=places, experts=settings.experts, hidden=settings.hidden
    )
    flat = torch.from_numpy(train.features).flatten(0, 1)
    model.feature_mean.copy_(flat.mean(0))
    model.feature_scale.copy_(flat.std(0).clamp(min=1e-3))
    # What places do is a handful of numbers that have far to go: ten times the step, and no decay towards one half.
    places_of = [model.looked, model.shown]
    rest = [parameter for parameter in model.parameters() if all(parameter is not place for place in places_of)]
    rate = settings.learning_rate
    groups: list[dict[str, Any]] = [{"params": places_of, "lr": 10 * rate, "weight_decay": 0.0}, {"params": rest}]
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=settings.weight_decay)
    rng = np.random.default_rng(settings.seed)
    curves, best = TwoCurves(), copy.deepcopy(model.state_dict())
    with torch_threads(1):
        while len(curves.train) < settings.max_epochs and len(curves.train) - settings.patience < _best(curves):
            losses = []
            for batch in np.array_split(rng.permutation(len(train)), math.ceil(len(train) / settings.batch_size)):
                loss = _loss(model, train.where(batch), settings)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.item())
            curves.train.append(float(np.mean(losses)))
            with torch.no_grad():
                curves.validation.append(_loss(model, validation, settings).item())
            if curves.best_epochs == len(curves.train):
                best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    return model.eval(), curves


def _best(curves: TwoCurves) -> int:
    return curves.best_epochs if curves.validation else 0


def _loss(model: MultiTask, slates: Impressions, settings: MultiTaskSettings) -> Tensor:
    logit, score = model(torch.from_numpy(slates.features))
    place, click = torch.from_numpy(slates.position), torch.from_numpy(slates.click)
    seen, shown = (
        of.index_select(0, place.reshape(-1)).view_as(logit) * settings.debias
        for of in (model.log_seen(), model.place_scores())
    )
    if settings.heads == "click":
        return click_loss(logit, seen, click)
    if settings.heads == "rank":
        return rank_loss(score, shown, click)
    return click_loss(logit, seen, click) + settings.rank_weight * rank_loss(score, shown, click)


@torch.no_grad()
def predict(model: MultiTask, features: Floats) -> tuple[Floats, Floats]:
    """Click probability at the top and ranking score: (n, C, F) -> (n, C), (n, C)."""
    logit, score = model(torch.from_numpy(features))
    return torch.sigmoid(logit).numpy(), score.numpy()


@torch.no_grad()
def judge_log(model: MultiTask, slates: Impressions, settings: MultiTaskSettings) -> dict[str, float]:
    """Log loss and calibration error where the items stood, and GAUC of each head, on logged slates."""
    probability, score = predict(model, slates.features)
    seen = model.log_seen().exp().numpy()[slates.position] if settings.debias else 1.0
    return {
        "log_loss": log_loss(probability * seen, slates.click),
        "calibration_error": calibration_error(probability * seen, slates.click),
        "gauc_click": grouped_auc(probability, slates.click),
        "gauc_rank": grouped_auc(score, slates.click),
    }
