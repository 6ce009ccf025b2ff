"""Click and ranking heads find what is liked under what an old policy showed first."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from service.bundle.native import open_session
from service.errors import DataError
from training import cli
from training.extended.click_metrics import calibration_error, graded_ndcg
from training.extended.impressions import Impressions, clicked, load_impressions, save_impressions
from training.extended.multi_task import MultiTask, click_loss, rank_loss
from training.extended.multi_task_export import export_multi_task, hard_cases, run_multi_task
from training.extended.multi_task_fit import Heads, MultiTaskSettings, fit_multi_task, judge_log, predict

PLACES = 6
EXAMINATION = np.arange(1, PLACES + 1) ** -0.8
SETTINGS = MultiTaskSettings(hidden=12, experts=2, max_epochs=15, learning_rate=0.01)


def liked(features: np.ndarray) -> np.ndarray:
    """What is clicked once looked at: the first feature counts, the second, by which slates were ordered, hurts."""
    return 1 / (1 + np.exp(0.8 - 1.5 * features[..., 0] + 0.5 * features[..., 1]))


def logged(slates: int, seed: int) -> Impressions:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(slates, PLACES, 3)).astype(np.float32)
    order = np.argsort(-features[..., 1] - 1.0 * rng.gumbel(size=(slates, PLACES)), axis=1)
    features = np.take_along_axis(features, order[..., None], 1)
    position = np.tile(np.arange(PLACES), (slates, 1))
    return Impressions(features, position, clicked(liked(features), EXAMINATION, rng))


@pytest.fixture(scope="module")
def log() -> Impressions:
    return logged(4000, seed=0)


@pytest.fixture(scope="module")
def fitted(log: Impressions) -> MultiTask:
    return fit_multi_task(log.where(slice(0, 3000)), log.where(slice(3000, None)), SETTINGS)[0]


def test_both_heads_find_the_preference_and_the_probability_is_right_at_the_top(fitted: MultiTask) -> None:
    rng = np.random.default_rng(1)
    candidates = rng.normal(size=(500, 30, 3)).astype(np.float32)
    true = liked(candidates)
    probability, score = predict(fitted, candidates)
    assert graded_ndcg(probability, true, k=10).mean() > 0.98
    assert graded_ndcg(score, true, k=10).mean() > 0.98
    assert calibration_error(probability, true) < 0.04
    seen = fitted.log_seen().exp().detach().numpy()
    assert seen[0] == 1.0
    np.testing.assert_allclose(seen, EXAMINATION, atol=0.06)


def test_blind_to_the_place_the_old_order_is_taken_for_a_preference(log: Impressions, fitted: MultiTask) -> None:
    blind = SETTINGS.model_copy(update={"debias": False})
    model, _ = fit_multi_task(log.where(slice(0, 3000)), log.where(slice(3000, None)), blind)
    candidates = np.random.default_rng(1).normal(size=(500, 30, 3)).astype(np.float32)
    true = liked(candidates)
    for told, told_blind in zip(predict(fitted, candidates), predict(model, candidates), strict=True):
        gained = graded_ndcg(told, true, k=10).mean() - graded_ndcg(told_blind, true, k=10).mean()
        assert gained > 0.03
    assert calibration_error(predict(model, candidates)[0], true) > 0.08
    figures, figures_blind = judge_log(fitted, logged(800, 7), SETTINGS), judge_log(model, logged(800, 7), blind)
    assert figures["log_loss"] < figures_blind["log_loss"]


@pytest.mark.parametrize(("heads", "still"), [("click", 1), ("rank", 0)])
def test_a_head_that_is_not_asked_for_does_not_learn(log: Impressions, heads: Heads, still: int) -> None:
    settings = SETTINGS.model_copy(update={"heads": heads, "max_epochs": 1, "weight_decay": 0.0})
    model, _ = fit_multi_task(log.where(slice(0, 500)), log.where(slice(500, 700)), settings)
    torch.manual_seed(settings.seed)
    start = MultiTask(num_features=3, num_places=PLACES, experts=2, hidden=12)
    moved = [
        any(not torch.equal(a, b) for a, b in zip(x.parameters(), y.parameters(), strict=True))
        for x, y in zip(model.heads, start.heads, strict=True)
    ]
    assert moved == [still != 0, still != 1]


def test_the_same_seed_gives_the_same_bits_and_validation_chooses(log: Impressions) -> None:
    settings = SETTINGS.model_copy(update={"max_epochs": 6})
    runs = [fit_multi_task(log.where(slice(0, 600)), log.where(slice(600, 900)), settings) for _ in range(2)]
    for name, value in runs[0][0].state_dict().items():
        assert torch.equal(value, runs[1][0].state_dict()[name]), name
    assert runs[0][1].validation == runs[1][1].validation
    again, _ = fit_multi_task(
        log.where(slice(0, 600)),
        log.where(slice(600, 900)),
        settings.model_copy(update={"max_epochs": runs[0][1].best_epochs}),
    )
    for name, value in again.state_dict().items():
        assert torch.equal(value, runs[0][0].state_dict()[name]), name


def test_losses_equal_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    logit, score, place = (torch.randn(5, 4, generator=generator) for _ in range(3))
    log_seen = F.logsigmoid(torch.randn(5, 4, generator=generator))
    click = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]]).float()
    p = torch.sigmoid(logit) * log_seen.exp()
    torch.testing.assert_close(click_loss(logit, log_seen, click), F.binary_cross_entropy(p, click))
    expected = []
    for row in (0, 2, 3, 4):  # the second slate has no click, and says nothing of the order
        p_row = torch.softmax(score[row] + place[row], 0)
        expected.append(-(p_row.log() * click[row]).sum() / click[row].sum())
    torch.testing.assert_close(rank_loss(score, place, click), torch.stack(expected).mean())
    assert rank_loss(score, place, torch.zeros(5, 4)) == 0
    sure = click_loss(torch.full((1, 1), 60.0), torch.zeros(1, 1), torch.zeros(1, 1))
    assert torch.isfinite(sure)


def test_the_export_follows_torch_for_any_number_of_candidates(
    fitted: MultiTask, log: Impressions, tmp_path: Path
) -> None:
    assert export_multi_task(fitted, tmp_path / "model.onnx", hard_cases(log)) <= 1e-4
    candidates = np.random.default_rng(3).normal(size=(2, 77, 3)).astype(np.float32)
    told = open_session(tmp_path / "model.onnx").run(["probability", "score"], {"features": candidates})
    for want, got in zip(predict(fitted, candidates), told, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_log_on_disk_becomes_a_model_and_a_report(log: Impressions, tmp_path: Path) -> None:
    save_impressions(log.where(slice(0, 1000)), tmp_path / "slates.npz")
    settings = SETTINGS.model_copy(update={"max_epochs": 3})
    app = cli.new_app("Train.")
    flags = {"log": (Path, ..., "Slates, .npz"), "out": (Path, ..., "Folder to write")}
    cli.add_command(app, "multi-task", run_multi_task, text="Heads.", settings={"": MultiTaskSettings}, flags=flags)
    given = ["--log", str(tmp_path / "slates.npz"), "--out", str(tmp_path / "out")]
    given += ["--hidden", "12", "--experts", "2", "--max-epochs", "3", "--learning-rate", "0.01"]
    told = CliRunner().invoke(app, given, catch_exceptions=False)
    assert told.exit_code == 0, told.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.onnx", "multi_task.json"]
    report = json.loads((tmp_path / "out" / "multi_task.json").read_text())
    assert report["slates"] == 100
    assert report["parity_max_abs_diff"] <= 1e-4
    assert 0.5 < report["metrics"]["gauc_rank"] < 1
    assert MultiTaskSettings.model_validate(report["settings"]) == settings


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"position": np.zeros((30, 2), int)}, "shapes"),
        ({"click": np.full((30, 3), 2.0)}, "0 or 1"),
        ({"features": np.full((30, 3, 1), np.nan)}, "finite"),
        ({"click": None}, "no logged slates"),
        ({"features": np.zeros((2, 3, 1)), "position": np.zeros((2, 3), int), "click": np.zeros((2, 3))}, "too few"),
    ],
)
def test_a_log_that_is_none_is_refused_and_nothing_is_written(
    change: dict[str, np.ndarray | None], says: str, tmp_path: Path
) -> None:
    whole = {"features": np.zeros((30, 3, 1)), "position": np.zeros((30, 3), int), "click": np.zeros((30, 3))}
    np.savez(tmp_path / "log.npz", **{k: v for k, v in (whole | change).items() if v is not None})
    with pytest.raises(DataError, match=says):
        run_multi_task(SETTINGS, tmp_path / "log.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_log_comes_back_as_it_was_written(log: Impressions, tmp_path: Path) -> None:
    save_impressions(log, tmp_path / "log.npz")
    back = load_impressions(tmp_path / "log.npz")
    for name in ("features", "position", "click"):
        np.testing.assert_array_equal(getattr(back, name), getattr(log, name))
