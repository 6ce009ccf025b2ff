"""Every option of every preset is one that the pipeline takes; what is asked wrongly is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from offline_jobs.pipeline import options_of
from offline_jobs.run_commands import check_options
from service.errors import InputError
from training.presets import PRESETS, preset_options
from training.run import dataset_of


@pytest.mark.parametrize("name", PRESETS)
def test_the_pipeline_takes_every_option(name: str) -> None:
    options = preset_options(name, Path("shop"), 7)
    check_options(options_of(options))
    assert "fit-model.seed=7" in options
    assert not any("{" in option for option in options)


def test_an_unknown_preset_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"there is no preset .books.*amazon-baby"):
        preset_options("books", Path("."), 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere", "--preset", "amazon-baby"], "error: nowhere: no such file or folder"),
        (["--data", ".", "--preset", "books"], "error: --preset: there is no preset 'books'"),
        (["--data", ".", "--preset", "fashion-week", "--set", "fit-model.width=wide"], "--width"),
    ],
)
def test_a_run_that_cannot_begin_says_why(arguments: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "fit", *arguments, "--out", "run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_run_names_its_data(tmp_path: Path) -> None:
    work = tmp_path / "shop" / "work"
    work.mkdir(parents=True)
    assert dataset_of(work) == "shop"
    (tmp_path / "shop" / "run.json").write_text('{"preset": "amazon-baby"}')
    assert dataset_of(work) == "amazon-baby"
