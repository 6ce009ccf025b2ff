"""The runner of steps: what it passes on, what it says, and how it ends. Whole runs: tests/end_to_end."""

import os
import signal
import subprocess
import sys
import time

import pytest

from offline_jobs.generated_shop import GeneratedShopSettings, generate_shop
from offline_jobs.pipeline import options_of, run_pipeline
from offline_jobs.run_commands import run_all
from offline_jobs.steps import STAGES, STEPS
from service.errors import DataError, InputError, StageError


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop") / "raw"
    generate_shop(GeneratedShopSettings(items=60, users=60, image_share=0), folder)
    return folder


def test_every_step_is_a_command():
    from offline_jobs.__main__ import COMMANDS
    from training.__main__ import app

    trained = {command.name for command in app.registered_commands}
    for step in STEPS:
        assert step.command in (trained if step.module == "training" else COMMANDS)
    assert len(STAGES) == len(set(STAGES)) == len(STEPS) - 1


def test_options_become_flags():
    assert options_of(
        ["fuse.epochs=3", "fit-model.max_epochs=2", "fuse.seed=1", "publish.force=true", "embed-text.model=a=b"]
    ) == {
        "fuse": ["--epochs=3", "--seed=1"],
        "fit-model": ["--max-epochs=2"],
        "publish": ["--force"],
        "embed-text": ["--model=a=b"],
    }


@pytest.mark.parametrize("pair", ["fuse", "fuse.epochs", "epochs=3", ".epochs=3", "fuse.=3"])
def test_what_is_no_option_is_named(pair):
    with pytest.raises(InputError, match=r"COMMAND\.FLAG=VALUE"):
        options_of([pair])


def test_no_data_is_heard_of_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        run_pipeline({}, tmp_path / "nothing", tmp_path / "work", tmp_path / "bundles")
    assert not (tmp_path / "work").exists()


def test_a_step_that_fails_ends_the_run_and_the_table_stays(shop, tmp_path, capfd):
    work = tmp_path / "work"
    options = options_of(["split.test-days=400"])
    with pytest.raises(StageError, match="step 'split' ended with status 2") as caught:
        run_pipeline(options, shop, work, tmp_path / "bundles")
    assert caught.value.where == str(work)
    said = capfd.readouterr()
    assert "error: split: the data spans 30 calendar day(s)" in said.err
    assert "ingest" in said.out
    assert "ran" in said.out
    assert "embed-text" not in said.out
    assert not (work / "split").exists()
    assert not (tmp_path / "bundles").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_running_step_too(shop, tmp_path, number, status):
    work = tmp_path / "work"
    command = [sys.executable, "-m", "offline_jobs", "run", "--data", str(shop), "--work", str(work)]
    with subprocess.Popen(
        [*command, "--bundles", str(tmp_path / "bundles")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (work / ".scratch").exists() or not (work / "ingest").exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(number)
            _, complaints = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status
    assert "Traceback" not in complaints
    assert ("interrupted; run the same command again to go on" in complaints) is (number == signal.SIGINT)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nothing of its session is left


def test_steps_run_side_by_side_and_a_failure_waits_for_the_others(shop, tmp_path, capfd):
    work = tmp_path / "work"
    with pytest.raises(StageError, match="step 'split' ended with status 2"):
        run_pipeline(options_of(["split.test-days=400"]), shop, work, tmp_path / "bundles", at_most=2)
    said = capfd.readouterr()
    assert "[embed-words] " in said.err, "the second of two has its name before its lines"
    assert "step 'split' has failed; waiting for embed-words to end" in said.err
    assert (work / "lexical_embeddings" / "stage.json").exists()


def test_a_run_until_a_step_ends_there(shop, tmp_path, capfd):
    work = tmp_path / "work"
    run_pipeline({}, shop, work, tmp_path / "bundles", until="split")
    assert sorted(path.name for path in work.iterdir() if not path.name.startswith(".")) == ["ingest", "split"]
    with pytest.raises(InputError, match="there is no step 'splitt'"):
        run_all(shop, work, tmp_path / "bundles", "splitt", 0, False, [])
    with pytest.raises(InputError, match="-1 steps at once"):
        run_all(shop, work, tmp_path / "bundles", None, -1, False, [])


def test_one_after_the_other_where_that_is_asked_for(shop, tmp_path, capfd):
    work = tmp_path / "work"
    with pytest.raises(StageError, match="step 'split' ended with status 2"):
        run_pipeline(options_of(["split.test-days=400"]), shop, work, tmp_path / "bundles", at_most=1)
    assert "embed-words" not in capfd.readouterr().out
    assert not (work / "lexical_embeddings").exists()
