"""Ray runs real fits of the planted world; what is killed is taken up, what is too large fails alone."""

from __future__ import annotations

import fcntl
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from service.errors import InputError, StageBusyError, StageError
from service.neighborhood import Relation
from training import cli
from training.dataset import TRAIN, VALIDATION, Dataset
from training.evaluation.result import Epoch
from training.fit import fit_gat
from training.fit_settings import FitSettings
from training.linear import LinearSettings, linear_graph
from training.stage import open_stage
from training.tracking.no_tracker import NoTracker
from training.tracking.settings import TrackingSettings
from training.tracking.tracked_run import TrackedRun, describe
from training.tuning.gat_trial import fit_trial
from training.tuning.ray_session import ray_session
from training.tuning.records import Records, Trial
from training.tuning.search import Report, TrialFunction, TuneSettings, best_trial, search
from training.tuning.space import Choice, Range, point, read_settings
from training.tuning.tune_stage import run_tune

BASE = FitSettings(width=15, max_epochs=4, batch_size=50, negatives=60, head_dim=4, heads=2, history_length=10)
SPACE = {"learning_rate": Range(low=1e-6, high=0.01, scale="log"), "temperature": Choice(values=(0.1, 0.2))}
ONE_BY_ONE = TuneSettings(trials=3, concurrency=1, first_rung=2, reduction=2)


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    """One Ray for the module: starting it takes seconds."""
    with ray_session(1):
        yield


class Opened:
    """Runs by trial, kept nowhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers: list[int] = []

    def __call__(self, trial: Trial) -> TrackedRun:
        self.numbers.append(trial.number)
        return TrackedRun(NoTracker(), self.folder, describe(f"tune-{trial.number}", trial.settings))


def planted_trial(dataset: Dataset, linear: Relation) -> TrialFunction:
    def trial(settings: Mapping[str, object], report: Report, scratch: Path) -> Sequence[Epoch]:
        return fit_trial(dataset, linear, settings, report, scratch)

    return trial


def test_the_best_settings_of_a_planted_world_are_found_and_the_search_can_be_made_longer(
    dataset: Dataset, tmp_path: Path
) -> None:
    opened = Opened(tmp_path)
    train, validation = (dataset.interactions.within([split]) for split in (TRAIN, VALIDATION))
    linear = linear_graph(train.matrix(), dict(dataset.relations), LinearSettings(ridge=10.0))
    planted = planted_trial(dataset, linear)
    trials = search(planted, BASE, SPACE, ONE_BY_ONE, tmp_path, data="planted", open_run=opened)
    assert [trial.number for trial in trials] == opened.numbers == [0, 1, 2]
    for trial in trials:
        settings = point(SPACE, BASE, trial.number, seed=0)
        assert trial.settings == settings.model_dump(mode="json")
        _, alone = fit_gat(dataset, train, settings, linear, validation=validation)
        # The trial's figures are those of the same fit outside Ray, up to where it was stopped.
        assert [e.validation_recall_at_20 for e in trial.curve] == alone.recall_at_20[: len(trial.curve)]
    assert best_trial(trials).best.validation_recall_at_20 == max(t.best.validation_recall_at_20 for t in trials)
    assert best_trial(trials).best.validation_recall_at_20 > 0.9

    longer = ONE_BY_ONE.model_copy(update={"trials": 4})
    more = search(planted, BASE, SPACE, longer, tmp_path, data="planted", open_run=opened)
    assert opened.numbers == [0, 1, 2, 3]
    assert more[:3] == trials
    # A step size of a millionth learns nothing: such a trial is stopped after the first rung.
    slow = [t for t in more if float(str(t.settings["learning_rate"])) < 1e-4]
    assert slow
    assert all((t.state, len(t.curve)) == ("stopped", 2) for t in slow)

    with pytest.raises(InputError, match="other data"):
        search(planted, BASE, SPACE, longer, tmp_path, data="other", open_run=opened)


def test_a_trial_that_wants_too_much_memory_fails_alone(tmp_path: Path) -> None:
    def trial(settings: Mapping[str, object], report: Report, scratch: Path) -> Sequence[Epoch]:
        if settings["seed"] == 0:
            bytearray(2**30)
        return [Epoch(epoch=1, loss=1.0, validation_recall_at_20=0.5, seconds=0.1)]

    def run(folder: Path, **changed: object) -> list[Trial]:
        settings = TuneSettings(concurrency=1, memory_mib=256, reduction=1).model_copy(update=changed)
        space = {"seed": Choice(values=(1,))}
        return search(trial, FitSettings(), space, settings, folder, data="none", open_run=Opened(folder))

    first, second = run(tmp_path / "two", trials=2)
    assert (first.state, second.state) == ("failed", "finished")
    assert "MemoryError" in first.error
    assert best_trial([first, second]) == second
    with pytest.raises(StageError, match=r"every trial failed: .*MemoryError"):
        run(tmp_path / "one", trials=1)


def work_folder(work: Path, dataset: Dataset) -> None:
    """The stages that a fit reads, as the planted world."""
    i = dataset.interactions
    columns = {name: getattr(i, name) for name in ("user_row", "item_row", "timestamp", "split")}
    files = {
        "ingest": {},
        "split": {"interactions.npz": columns},
        "fusion": {"fused.npy": dataset.content},
        "lexical_embeddings": {"vectors.npy": np.zeros((i.num_items, 1), np.float32)},
        "graphs": {f"{n}.npz": {"neighbors": r.neighbors, "weights": r.weights} for n, r in dataset.relations.items()},
    }
    for name, arrays in files.items():
        with open_stage(work, name, version=1, inputs={}, settings=FitSettings()) as stage:
            for file, held in arrays.items():
                if isinstance(held, dict):
                    np.savez(stage.out / file, **held)
                else:
                    np.save(stage.out / file, held)
            if name == "ingest":
                for table, size in (("users", i.num_users), ("items", i.num_items)):
                    pl.DataFrame({"id": range(size)}).write_parquet(stage.out / f"{table}.parquet")


def test_the_command_leaves_settings_that_a_fit_takes_and_runs_in_mlflow(dataset: Dataset, tmp_path: Path) -> None:
    work_folder(tmp_path, dataset)
    (tmp_path / "space.json").write_text('{"temperature": {"values": [0.2]}}')
    app = cli.new_app("test")
    app.callback()(lambda: None)
    models = {"": TuneSettings, "fit": FitSettings, "linear": LinearSettings, "track": TrackingSettings}
    cli.add_command(app, "tune", run_tune, text="Search.", settings=models, flags={"work": cli.WORK})
    small = {"width": 15, "max-epochs": 2, "batch-size": 50, "negatives": 60, "heads": 2, "history-length": 10}
    flags = ["--work", str(tmp_path), "--trials", "2", "--concurrency", "1", "--track-to", "mlflow"]
    flags += ["--space", str(tmp_path / "space.json"), "--linear-ridge", "10"]
    flags += [word for name, value in small.items() for word in (f"--fit-{name}", str(value))]
    done = CliRunner().invoke(app, ["tune", *flags])
    assert done.exit_code == 0, done.output
    best = read_settings(tmp_path / "tune" / "best.json", FitSettings)
    board = json.loads((tmp_path / "tune" / "leaderboard.json").read_text())
    assert {row["settings"]["temperature"] for row in board} == {0.15, 0.2}
    assert best.model_dump(mode="json") == board[0]["settings"]
    assert board[0]["validation_recall_at_20"] >= board[1]["validation_recall_at_20"]
    with sqlite3.connect(tmp_path / "tune" / "mlflow.db") as database:
        kept = dict(database.execute("SELECT name, status FROM runs").fetchall())
        steps = database.execute("SELECT COUNT(*) FROM metrics WHERE key = 'validation_recall_at_20'").fetchone()[0]
    database.close()
    assert kept == {"tune-0": "FINISHED", "tune-1": "FINISHED"}
    assert steps == 4

    held = (tmp_path / "tune" / ".lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(StageBusyError):
        run_tune(TuneSettings(), FitSettings(), LinearSettings(), TrackingSettings(), tmp_path)
    held.close()


SCRIPT = """
import json, os, time
from pathlib import Path
from training.evaluation.result import Epoch
from pydantic import BaseModel
from training.tuning.search import TuneSettings, search
from training.tuning.space import Choice

class Settings(BaseModel):
    heads: int = 4

def slow_trial(settings, report, scratch):
    done = scratch / "epochs"
    had = int(done.read_text()) if done.exists() else 0
    with (scratch.parent / "starts.txt").open("a") as file:
        print(scratch.name, had, os.getpid(), file=file)
    curve = []
    for epoch in range(1, 5):
        curve.append(Epoch(epoch=epoch, loss=1.0, validation_recall_at_20=epoch / 10, seconds=0.1))
        if epoch > had:
            time.sleep(0.3)
            done.write_text(str(epoch))
            report(curve)
    return curve

def go(folder, open_run):
    space, settings = {"heads": Choice(values=(2, 8))}, TuneSettings(trials=3, concurrency=1, reduction=1)
    return search(slow_trial, Settings(), space, settings, folder, data="none", open_run=open_run)
"""

START = """
import sys
from training.stage import open_stage
from training.tracking.no_tracker import NoTracker
from training.tracking.settings import TrackingSettings
from training.tracking.tracked_run import TrackedRun, describe
folder = Path(sys.argv[1])
go(folder, lambda trial: TrackedRun(NoTracker(), folder, describe(f"tune-{trial.number}", trial.settings)))
"""


def test_a_search_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle of trial 1: trial 0 is not run again, trial 1 goes on after the epochs it had."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT + START, str(tmp_path)], stderr=subprocess.DEVNULL)
    records = Records(tmp_path)
    deadline = time.monotonic() + 120
    while not ((trial := records.read(1)) and len(trial.curve) == 2):
        assert time.monotonic() < deadline
        assert process.poll() is None, "the search ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    killed = {trial.number: trial for trial in records.read_all()}
    assert (killed[0].state, killed[1].state) == ("finished", "running")
    starts = tmp_path / "trials" / "starts.txt"
    worker = int(starts.read_text().split()[-1])
    while Path(f"/proc/{worker}").exists():  # nothing goes on writing into the trial's folder
        assert time.monotonic() < deadline
        time.sleep(0.02)

    names: dict[str, Any] = {"__name__": "not a module, so that Ray takes the function by value"}
    exec(SCRIPT, names)
    opened = Opened(tmp_path)
    trials = names["go"](tmp_path, opened)
    assert opened.numbers == [1, 2]
    assert trials[0] == killed[0]
    assert [len(trial.curve) for trial in trials] == [4, 4, 4]
    begun = [[int(word) for word in line.split()[:2]] for line in starts.read_text().splitlines()]
    assert [number for number, _ in begun] == [0, 1, 1, 2]
    assert begun[2][1] >= 2
