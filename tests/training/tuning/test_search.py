"""Ray runs real fits of the planted world; what is killed is taken up, what is too large fails alone."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from service.errors import InputError, StageBusyError, StageError
from training import cli
from training.dataset import TRAIN, VALIDATION, Dataset, load_dataset
from training.evaluation.result import Epoch
from training.fit import fit_gat
from training.fit_settings import FitSettings
from training.linear import LinearSettings, linear_graph
from training.stage import open_stage
from training.tracking.no_tracker import NoTracker
from training.tracking.settings import TrackingSettings
from training.tracking.tracked_run import TrackedRun, describe
from training.tuning.ray_session import PREFIX, ray_session
from training.tuning.records import Records, Trial
from training.tuning.search import Report, TuneSettings, best_trial, search
from training.tuning.space import Choice, read_settings
from training.tuning.tune_stage import run_tune


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


def test_the_command_finds_settings_that_a_fit_takes_and_keeps_the_runs(dataset: Dataset, tmp_path: Path) -> None:
    """Content is noise, and edges and round trips are left out: what is not learned is not known."""
    noise = np.random.default_rng(0).normal(0, 0.05, dataset.content.shape).astype(np.float32)
    dataset = dataclasses.replace(dataset, content=noise)
    work_folder(tmp_path, dataset)
    (tmp_path / "space.json").write_text('{"learning_rate": {"values": [1e-06]}}')
    app = cli.new_app("test")
    app.callback()(lambda: None)
    models = {"": TuneSettings, "fit": FitSettings, "linear": LinearSettings, "track": TrackingSettings}
    cli.add_command(app, "tune", run_tune, text="Search.", settings=models, flags={"work": cli.WORK})
    base = FitSettings(
        width=15,
        rounds=0,
        relations="image_knn=0",
        identity_dropout=0.0,
        heads=2,
        max_epochs=4,
        batch_size=50,
        negatives=60,
        history_length=10,
        learning_rate=0.02,
    )
    flags = ["--work", str(tmp_path), "--trials", "2", "--concurrency", "1", "--track-to", "mlflow"]
    flags += ["--first-rung", "2", "--reduction", "2", "--space", str(tmp_path / "space.json"), "--linear-ridge", "10"]
    for name in base.model_fields_set:
        flags += [f"--fit-{name.replace('_', '-')}", str(getattr(base, name))]
    done = CliRunner().invoke(app, ["tune", *flags])
    assert done.exit_code == 0, done.output

    # A step size of a millionth is stopped at the first rung; the other is the same fit as outside of Ray.
    first, second = Records(tmp_path / "tune").read_all()
    assert (first.state, second.state, len(second.curve)) == ("finished", "stopped", 2)
    train, validation = (dataset.interactions.within([split]) for split in (TRAIN, VALIDATION))
    linear = linear_graph(train.matrix(), dict(dataset.relations), LinearSettings(ridge=10.0))
    _, alone = fit_gat(load_dataset(tmp_path), train, base, linear, validation=validation)
    assert [epoch.validation_recall_at_20 for epoch in first.curve] == alone.recall_at_20
    assert max(alone.recall_at_20) > 0.9

    assert read_settings(tmp_path / "tune" / "best.json", FitSettings) == base
    options = (tmp_path / "tune" / "best.options").read_text().splitlines()
    assert {"fit-model.learning-rate=0.02", "fit-model.relations=image_knn=0"} <= set(options)
    board = json.loads((tmp_path / "tune" / "leaderboard.json").read_text())
    assert [row["trial"] for row in board] == [0, 1]
    with contextlib.closing(sqlite3.connect(tmp_path / "tune" / "mlflow.db")) as database:
        assert dict(database.execute("SELECT name, status FROM runs")) == {"tune-0": "FINISHED", "tune-1": "FINISHED"}
        count = "SELECT COUNT(*) FROM metrics WHERE key = 'validation_recall_at_20'"
        assert database.execute(count).fetchone() == (6,)
    assert sorted(path.name for path in (tmp_path / "tune" / "trials").iterdir()) == ["0.json", "1.json"]


def test_two_searches_in_one_folder_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    work_folder(tmp_path, dataset)
    (tmp_path / "tune").mkdir()
    with (tmp_path / "tune" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StageBusyError, match="another process searches"):
            run_tune(TuneSettings(), FitSettings(), LinearSettings(), TrackingSettings(), tmp_path)


def test_trials_are_compared_at_epochs_that_are_judged(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--first-rung: 4 is no multiple of 5"):
        run_tune(TuneSettings(), FitSettings(judge_every=5), LinearSettings(), TrackingSettings(), tmp_path)


def test_a_search_over_other_data_does_not_mix_with_what_is_there(tmp_path: Path) -> None:
    space, settings = {"heads": Choice(values=(2,))}, TuneSettings(trials=1)
    Records(tmp_path).write(Trial(number=0, settings={}, state="finished", curve=CURVE))
    for data in ("planted", "planted"):  # all is done: no process is started
        search(never, FitSettings(), space, settings, tmp_path, data=data, open_run=Opened(tmp_path))
    with pytest.raises(InputError, match="other data"):
        search(never, FitSettings(), space, settings, tmp_path, data="other", open_run=Opened(tmp_path))


def test_a_search_whose_trials_all_failed_says_why() -> None:
    failed = Trial(number=0, settings={}, state="failed", error="ValueError: no data")
    assert best_trial([failed, Trial(number=1, settings={}, state="finished", curve=CURVE)]).number == 1
    with pytest.raises(StageError, match="every trial failed: ValueError: no data"):
        best_trial([failed])


CURVE = (Epoch(epoch=1, loss=1.0, validation_recall_at_20=0.5, seconds=0.1),)


def never(settings: Mapping[str, object], report: Report, scratch: Path) -> Sequence[Epoch]:
    raise AssertionError("this trial was done")


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
    if scratch.name == "3":
        bytearray(2**30)
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

def go(folder, trials, open_run):
    space, settings = {"heads": Choice(values=(2, 8))}, TuneSettings(
        trials=trials, concurrency=1, reduction=1, memory_mib=256
    )
    return search(slow_trial, Settings(), space, settings, folder, data="none", open_run=open_run)
"""

START = """
import sys
from training.stage import open_stage
from training.tracking.no_tracker import NoTracker
from training.tracking.settings import TrackingSettings
from training.tracking.tracked_run import TrackedRun, describe
folder = Path(sys.argv[1])
go(folder, 2, lambda trial: TrackedRun(NoTracker(), folder, describe(f"tune-{trial.number}", trial.settings)))
"""


def test_a_search_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle of trial 1: trial 0 is not run again, trial 1 goes on after the epochs it had.

    The search is made longer by two, of which the last wants more memory than it may have, and fails alone.
    """
    process = subprocess.Popen([sys.executable, "-c", SCRIPT + START, str(tmp_path)], stderr=subprocess.DEVNULL)
    records = Records(tmp_path)
    deadline = time.monotonic() + 240
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
    trials = names["go"](tmp_path, 4, opened)
    assert opened.numbers == [1, 2, 3]
    assert trials[0] == killed[0]
    assert [len(trial.curve) for trial in trials] == [4, 4, 4, 0]
    assert [trial.state for trial in trials] == ["finished", "finished", "finished", "failed"]
    assert "MemoryError" in trials[3].error
    assert list(Path(tempfile.gettempdir()).glob(f"{PREFIX}{process.pid}-*")) == []
    begun = [[int(word) for word in line.split()[:2]] for line in starts.read_text().splitlines()]
    assert [number for number, _ in begun] == [0, 1, 1, 2]
    assert begun[2][1] >= 2
