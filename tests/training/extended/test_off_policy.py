"""Policies learned from a log: better than the one that logged and than clicks; refused logs; the command."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from service.errors import DataError
from training import cli
from training.extended.estimators import Floats, Logged
from training.extended.off_policy import (
    OBJECTIVES,
    Objective,
    OffPolicySettings,
    cross_fitted,
    fit_policy,
    learn_policy,
    read_log,
    run_off_policy,
)

TASTES = 5


def planted_log(rows: int, seed: int) -> tuple[Logged, Floats]:
    """Each taste clicks its own action half of the time, any other one time in ten. The log shows action 0 to most.

    Returns the log and the click probabilities (tastes, actions).
    """
    rng = np.random.default_rng(seed)
    logging = np.full(TASTES, 0.3 / TASTES)
    logging[0] += 0.7
    click = 0.1 + 0.4 * np.eye(TASTES)
    taste = rng.integers(0, TASTES, rows)
    action = rng.choice(TASTES, rows, p=logging)
    reward = (rng.random(rows) < click[taste, action]).astype(np.float64)
    context = np.eye(TASTES, dtype=np.float32)[taste]
    return Logged(context, action, logging[action], reward, TASTES), click


def true_value(log: Logged, click: Floats, settings: OffPolicySettings) -> float:
    policy, _ = learn_policy(log, settings)
    return float((policy.probabilities(np.eye(TASTES, dtype=np.float32)) * click).sum(1).mean())


@pytest.mark.parametrize("objective", ["ips", "clipped", "snips", "dr", "model"])
def test_what_a_policy_learns_from_weights_beats_what_it_learns_from_clicks(objective: Objective) -> None:
    log, click = planted_log(2_500, seed=1)
    learned = true_value(log, click, OffPolicySettings(objective=objective))
    naive = true_value(log, click, OffPolicySettings(objective="clicks"))
    # The log itself earns .18; always right earns .5.
    assert naive < 0.35
    assert learned > 0.42


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_same_seed_learns_the_same_policy(objective: Objective) -> None:
    log, _ = planted_log(400, seed=2)
    one, two = (learn_policy(log, OffPolicySettings(objective=objective, seed=3))[0] for _ in range(2))
    np.testing.assert_array_equal(one.weight, two.weight)
    np.testing.assert_array_equal(one.bias, two.bias)


def test_a_policy_is_a_distribution_and_its_weights_are_over_the_propensities() -> None:
    log, _ = planted_log(300, seed=0)
    policy = fit_policy(log, OffPolicySettings(objective="ips"), 0.1)
    probabilities = policy.probabilities(log.context)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    row = 17
    assert policy.weights(log)[row] == pytest.approx(probabilities[row, log.action[row]] / log.propensity[row])


def test_the_variance_penalty_keeps_a_small_log_from_betting_on_rare_rows() -> None:
    log, _ = planted_log(120, seed=4)
    free, held = (
        fit_policy(log, OffPolicySettings(objective="ips", variance_penalty=penalty), 0.01).weights(log)
        for penalty in (0.0, 3.0)
    )
    assert (held * log.reward).std() < (free * log.reward).std()


def test_a_cross_fitted_model_has_not_seen_the_row_it_speaks_of() -> None:
    log, _ = planted_log(200, seed=5)
    q = cross_fitted(log, 0.1, 30, seed=0)
    half = np.random.default_rng([0, 1]).permutation(200)[:100]
    flipped = log.reward.copy()
    flipped[half] = 1 - flipped[half]
    changed = cross_fitted(Logged(log.context, log.action, log.propensity, flipped, TASTES), 0.1, 30, seed=0)
    np.testing.assert_array_equal(q[half], changed[half])
    others = np.setdiff1d(np.arange(200), half)
    assert np.abs(q[others] - changed[others]).max() > 0.1


def write_log(path: Path, log: Logged) -> None:
    context = {f"taste_{i}": log.context[:, i] for i in range(log.context.shape[1])}
    pl.DataFrame({"action": log.action, "propensity": log.propensity, "reward": log.reward, **context}).write_parquet(
        path
    )


def test_the_command_writes_the_policy_and_what_to_expect_of_it(tmp_path: Path) -> None:
    log, click = planted_log(2_000, seed=6)
    write_log(tmp_path / "log.parquet", log)
    run_off_policy(OffPolicySettings(), log=tmp_path / "log.parquet", out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["policy.safetensors", "report.json"]
    report = json.loads((tmp_path / "out/report.json").read_text())
    policy, _ = learn_policy(log, OffPolicySettings())
    np.testing.assert_array_equal(load_file(tmp_path / "out/policy.safetensors")["weight"], policy.weight)
    truth = float((policy.probabilities(np.eye(TASTES, dtype=np.float32)) * click).sum(1).mean())
    assert report["learned, ips"]["low"] < truth < report["learned, ips"]["high"]
    assert report["logging policy"]["mean"] < report["learned, snips"]["mean"]
    assert 0 < report["diagnostics"]["effective_rows"] < 600


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"propensity": pl.lit(0.0)}, "row 0: propensity: 0.0 is no probability"),
        ({"reward": pl.lit("yes")}, "column 'reward' is not all numbers"),
        ({"reward": pl.lit(None, pl.Float64)}, "column 'reward' is not all numbers"),
    ],
)
def test_a_log_with_a_wrong_column_is_refused(tmp_path: Path, changed: dict[str, pl.Expr], said: str) -> None:
    path = tmp_path / "log.parquet"
    write_log(path, planted_log(10, seed=0)[0])
    pl.read_parquet(path).with_columns(**changed).write_parquet(path)
    with pytest.raises(DataError, match=said):
        read_log(path)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (["action", "reward", "taste_0"], "no column 'propensity'"),
        (["action", "reward", "propensity"], "no context column"),
    ],
)
def test_a_log_without_a_column_is_refused(tmp_path: Path, kept: list[str], said: str) -> None:
    path = tmp_path / "log.parquet"
    write_log(path, planted_log(10, seed=0)[0])
    pl.read_parquet(path).select(kept).write_parquet(path)
    with pytest.raises(DataError, match=said):
        read_log(path)


def test_the_command_refuses_what_it_cannot_read_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = cli.new_app("test")
    cli.add_command(
        app,
        "off-policy",
        run_off_policy,
        text="Learn",
        settings={"": OffPolicySettings},
        flags={"log": (Path, ..., "log"), "out": (Path, ..., "out")},
    )
    (tmp_path / "log.parquet").write_bytes(b"no parquet")
    monkeypatch.setattr("sys.argv", ["x", "--log", str(tmp_path / "log.parquet"), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        cli.main(app)
    assert ended.value.code == 2
    assert "cannot be read as Parquet" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
