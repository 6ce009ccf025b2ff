"""ONNX follows torch, also where histories are empty; padding changes no score; attention is a distribution."""

from pathlib import Path

import numpy as np
import pytest
import torch

from service.bundle.native import open_session
from service.bundle.signatures import ITEM_TOWER, RERANKER, USER_TOWER
from service.errors import StageError
from service.neighborhood import Relation
from training.dataset import TRAIN, Dataset
from training.export_onnx import UserTower, export, history_cases, reranker_cases
from training.fit import fit_gat
from training.fit_settings import FitSettings
from training.histories import histories, past_of, user_vectors
from training.item_tower import ItemTower, fit_item_tower
from training.linear import LinearSettings, linear_graph
from training.reranker import Reranker, unit

DIM, LENGTH, RELATIONS = 16, 12, 3
SETTINGS = FitSettings(width=DIM - 1, heads=2, head_dim=4, batch_size=64, negatives=60)


def tables(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    history = torch.randn(40, DIM, generator=generator)
    history[:, -1] = 0
    return torch.randn(40, DIM, generator=generator), history, torch.rand(40, generator=generator) * 9


def linear(dataset: Dataset) -> Relation:
    return linear_graph(dataset.interactions.within([TRAIN]).matrix(), dataset.relations, LinearSettings(degree=20))


def lively_reranker() -> Reranker:
    """With every weight away from its start, so that no path is zero."""
    torch.manual_seed(1)
    model = Reranker(num_relations=RELATIONS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def test_the_reranker_in_onnx_equals_torch_on_every_hard_case(tmp_path: Path) -> None:
    cases = reranker_cases(*tables(), num_relations=RELATIONS, length=LENGTH, seed=0)
    path = tmp_path / "reranker.onnx"
    described = export(lively_reranker(), RERANKER, path, cases, dim=DIM, num_relations=RELATIONS)
    assert described.parity_max_abs_diff < 1e-4
    assert described.parity_cases == len(cases) == 5
    import onnx

    operators = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert not any("Scatter" in operator for operator in operators)


def test_an_export_that_does_not_follow_torch_is_refused(tmp_path: Path) -> None:
    class Drifting(UserTower):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            out = super().forward(*inputs)
            return out if torch.jit.is_tracing() else out + 0.01

    cases = history_cases(tables()[1], length=LENGTH, seed=0)
    with pytest.raises(StageError, match="differ by"):
        export(Drifting(0.1), USER_TOWER, tmp_path / "m.onnx", cases, dim=DIM, num_relations=RELATIONS)


def test_padding_candidates_and_events_changes_no_score() -> None:
    case = reranker_cases(*tables(), num_relations=RELATIONS, length=LENGTH, seed=0)[4]
    model = lively_reranker()
    half = case["edges"].shape[1] // 2  # the second half of this case's candidates is padding
    with torch.no_grad():
        scores, _ = model(**case)
        cut = {k: (v[:, :half] if k.startswith("cand") or k == "edges" else v) for k, v in case.items()}
        alone, _ = model(**cut)
        longer = {
            k: torch.cat([v, torch.zeros_like(v[:, :3])], 1) if k.startswith("history") else v for k, v in case.items()
        }
        longer["edges"] = torch.cat([case["edges"], torch.zeros_like(case["edges"][:, :, :3])], 2)
        padded, _ = model(**longer)
    torch.testing.assert_close(alone, scores[:, :half])
    torch.testing.assert_close(padded, scores)


def test_a_zero_row_has_a_gradient_of_zero() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    unit(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_attention_sums_to_one_over_events_and_is_zero_without_any() -> None:
    case = reranker_cases(*tables(), num_relations=RELATIONS, length=LENGTH, seed=0)[4]
    with torch.no_grad():
        _, attention = lively_reranker()(**case)
    total = attention.sum(-1)
    torch.testing.assert_close(total[0], torch.zeros_like(total[0]))
    torch.testing.assert_close(total[1:], torch.ones_like(total[1:]))
    assert (attention * (1 - case["history_mask"][:, None])).abs().max() == 0


def test_the_user_tower_equals_the_vectors_that_the_model_was_judged_with(tmp_path: Path, dataset: Dataset) -> None:
    train = dataset.interactions.within([TRAIN])
    t = fit_gat(dataset, train, SETTINGS, linear(dataset), validation=None, epochs=1)[0].tables()
    history = histories(past_of(train), now=train.as_of(), length=LENGTH)
    cases = history_cases(torch.from_numpy(t.history_vectors), length=LENGTH, seed=0)
    export(UserTower(0.2), USER_TOWER, tmp_path / "u.onnx", cases, dim=DIM, num_relations=RELATIONS)
    served = open_session(tmp_path / "u.onnx").run(
        None,
        {
            "history_vectors": t.history_vectors[history.rows],
            "history_mask": history.mask,
            "history_age_days": history.age_days,
        },
    )[0]
    np.testing.assert_allclose(served, user_vectors(history, t.history_vectors, 0.2), atol=1e-5)


def test_the_item_tower_places_a_new_item_in_its_cluster(tmp_path: Path, dataset: Dataset) -> None:
    train = dataset.interactions.within([TRAIN])
    fit, _ = fit_gat(dataset, train, SETTINGS, linear(dataset), validation=None, epochs=8)
    vectors = torch.from_numpy(fit.tables().item_vectors)
    relation = dataset.relations["text_knn"]
    near, weights = torch.from_numpy(relation.neighbors).long(), torch.from_numpy(relation.weights)
    fused = torch.from_numpy(dataset.content)
    new = torch.arange(0, 90, 15)
    known = torch.tensor([i for i in range(90) if i % 15])
    torch.manual_seed(0)
    tower = ItemTower(dim=DIM, fused_dim=128, temperature=SETTINGS.temperature, unseen_popularity=-1.0)
    fit_item_tower(tower, fused, vectors, near, weights, known, steps=150)
    case = {"fused": fused[new], "neighbor_vectors": vectors[near[new]], "neighbor_weights": weights[new]}
    described = export(tower, ITEM_TOWER, tmp_path / "i.onnx", [case], dim=DIM, num_relations=RELATIONS)
    assert described.parity_max_abs_diff < 1e-4
    placed = torch.from_numpy(open_session(tmp_path / "i.onnx").run(None, {k: v.numpy() for k, v in case.items()})[0])
    likeness = placed[:, :-1] @ vectors[known, :-1].T
    assert (known[likeness.argmax(1)] // 15 == new // 15).all()
    assert (placed[:, -1] == -1.0).all()
