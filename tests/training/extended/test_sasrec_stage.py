"""The stage fits, chooses, judges once, and leaves a result and weights; a second run does nothing."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import BaseModel
from safetensors.torch import load_file
from typer.testing import CliRunner

from service.errors import StageError
from training import cli
from training.dataset import TEST, Dataset, Interactions
from training.evaluation.result import load_per_user, load_results
from training.extended.sasrec_fit import SasRecSettings
from training.extended.sasrec_stage import run_sasrec
from training.stage import open_stage

SETTINGS = SasRecSettings(dim=16, dropout=0.1, length=8, learning_rate=0.01, batch_size=64, max_epochs=4, seed=3)


class SplitKind(BaseModel):
    """What the `split` stage says of itself."""

    kind: str


def work_folder(work: Path, interactions: Interactions, kind: str) -> None:
    for name in ("ingest", "split"):
        with open_stage(work, name, version=1, inputs={}, settings=SplitKind(kind=kind)) as stage:
            if name == "ingest":
                for table, size in (("users", interactions.num_users), ("items", interactions.num_items)):
                    pl.DataFrame({"row": np.arange(size)}).write_parquet(stage.out / f"{table}.parquet")
                continue
            names = ("user_row", "item_row", "timestamp", "split")
            np.savez(stage.out / "interactions.npz", **{name: getattr(interactions, name) for name in names})


@pytest.mark.parametrize(("kind", "protocol"), [("global-time", "B"), ("random", "A")])
def test_a_work_folder_gets_a_result_that_can_be_compared(
    dataset: Dataset, tmp_path: Path, kind: str, protocol: str
) -> None:
    work_folder(tmp_path, dataset.interactions, kind)
    run_sasrec(SETTINGS, tmp_path, "planted")
    [result] = load_results(tmp_path)
    assert (result.model, result.dataset, result.protocol, result.seed) == ("sasrec", "planted", protocol, 3)
    assert result.users == len(np.unique(dataset.interactions.within([TEST]).user_row))
    assert len(result.curve) <= SETTINGS.max_epochs
    assert SasRecSettings.model_validate(result.settings) == SETTINGS
    weights = load_file(tmp_path / "sasrec-3" / "model.safetensors")
    assert sum(value.numel() for value in weights.values()) == result.parameters
    # 90 items, nine left of the shopper's cluster: whoever guesses has one in four in a list of twenty.
    assert result.metrics["recall@20"].mean > 0.6
    assert load_per_user(tmp_path, result).values["recall@20"].mean() == pytest.approx(result.metrics["recall@20"].mean)

    written = tmp_path / "results" / "sasrec-3.json"
    before = written.stat().st_mtime_ns
    run_sasrec(SETTINGS, tmp_path, "planted")
    assert written.stat().st_mtime_ns == before


def test_without_a_split_there_is_nothing_to_fit(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="split"):
        run_sasrec(SETTINGS, tmp_path, "planted")
    assert not (tmp_path / "results").exists()


def test_every_setting_is_a_flag(dataset: Dataset, tmp_path: Path) -> None:
    work_folder(tmp_path, dataset.interactions, "global-time")
    app = cli.new_app("Train.")
    flags = {"work": cli.WORK, "dataset": (str, ..., "Name of the data in results")}
    cli.add_command(app, "sasrec", run_sasrec, text="SASRec.", settings={"": SasRecSettings}, flags=flags)
    given = ["--dim", "8", "--max-epochs", "1", "--clock", "age", "--temperature", "0", "--loss", "bce", "--seed", "1"]
    told = CliRunner().invoke(app, ["--work", str(tmp_path), "--dataset", "planted", *given], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    [result] = load_results(tmp_path)
    assert (result.seed, result.settings["clock"], result.settings["temperature"]) == (1, "age", 0.0)
