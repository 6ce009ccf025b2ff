"""Export the fitted models to ONNX, and measure how closely onnxruntime follows torch on hard cases."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from service.bundle.manifest import OnnxModel
from service.bundle.native import open_session
from service.bundle.signatures import signatures
from service.errors import StageError
from training.reranker import NEGATIVE

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference between onnxruntime and torch that an export may show."""

PADDED_CASE = 4
"""Which of the re-ranker's cases has padded candidates."""

Inputs = dict[str, Tensor]


def export(model: nn.Module, name: str, path: Path, cases: list[Inputs], *, dim: int, num_relations: int) -> OnnxModel:
    """Write `model` as the bundle's model `name`, with free batch and list dimensions, and check every case.

    Raises StageError where onnxruntime and torch differ by more than TOLERANCE.
    """
    inputs, outputs = signatures(dim, num_relations)[name]
    model = model.eval()
    dynamic = {
        key: {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for key, spec in (inputs | outputs).items()
    }
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated but exports free dimensions without specialising the example's.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(cases[0][key] for key in inputs),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path))
    difference = max(_difference(model, path, case, list(outputs)) for case in cases)
    if difference > TOLERANCE:
        raise StageError(
            f"onnxruntime and torch differ by {difference:.2e}, more than {TOLERANCE:.0e}",
            where=str(path),
            todo="Check the exporter's version against constraints.txt",
        )
    return OnnxModel(
        opset=OPSET, inputs=inputs, outputs=outputs, parity_max_abs_diff=difference, parity_cases=len(cases)
    )


@torch.no_grad()
def _difference(model: nn.Module, path: Path, case: Mapping[str, Tensor], outputs: list[str]) -> float:
    expected = model(*case.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    actual = open_session(path).run(outputs, {key: value.numpy() for key, value in case.items()})
    return max(float(np.abs(want.numpy() - got).max(initial=0.0)) for want, got in zip(expected, actual, strict=True))


class UserTower(nn.Module):
    """A shopper's vector: the unit aggregate of decayed events, then 1 for the popularity column.

    history_vectors (b, L, d), history_mask (b, L), history_age_days (b, L) -> (b, d). An empty history gives zeros
    and the 1: the order is then that of popularity.
    """

    def __init__(self, decay_per_day: float) -> None:
        super().__init__()
        self.decay_per_day = decay_per_day

    def forward(self, history_vectors: Tensor, history_mask: Tensor, history_age_days: Tensor) -> Tensor:
        """See the class."""
        weight = history_mask * torch.exp(-self.decay_per_day * history_age_days)
        total = (weight[..., None] * history_vectors).sum(1)[:, :-1]
        norm = total.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)
        return torch.cat([total / norm, torch.ones_like(total[:, :1])], 1)


def history_cases(vectors: Tensor, *, length: int, seed: int) -> list[Inputs]:
    """Histories that break exporters: empty, one event, full, and a batch of unlike lengths."""
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for counts, padded in (([3], length), ([0], 8), ([1], 8), ([length], length), ([0, 1, 5, length], length)):
        rows = torch.randint(0, len(vectors), (len(counts), padded), generator=generator)
        mask = (torch.arange(padded)[None] < torch.tensor(counts)[:, None]).float()
        age = torch.rand(mask.shape, generator=generator).cumsum(1) * 3 * mask
        cases.append({"history_vectors": vectors[rows], "history_mask": mask, "history_age_days": age})
    return cases


def reranker_cases(
    item_vectors: Tensor, history_vectors: Tensor, popularity: Tensor, *, num_relations: int, length: int, seed: int
) -> list[Inputs]:
    """Every history case with candidates: many, one, cold ones, without any edge, and padded ones."""
    generator = torch.Generator().manual_seed(seed + 1)
    cases = []
    for index, history in enumerate(history_cases(history_vectors, length=length, seed=seed)):
        batch, padded = history["history_mask"].shape
        count = (200, 1, 32, 200, 64)[index]
        rows = torch.randint(0, len(item_vectors), (batch, count), generator=generator)
        edges = torch.rand((batch, count, padded, num_relations), generator=generator)
        edges = edges * (edges > 0.9) * (index != 2) * history["history_mask"][:, None, :, None]
        scores = torch.randn((batch, count), generator=generator)
        if index == PADDED_CASE:
            scores[:, count // 2 :], edges[:, count // 2 :] = NEGATIVE, 0.0
        cases.append(
            {
                "candidate_vectors": item_vectors[rows],
                "candidate_scores": scores,
                "candidate_popularity": popularity[rows] * (index != 3),
                **history,
                "edges": edges,
            }
        )
    return cases
