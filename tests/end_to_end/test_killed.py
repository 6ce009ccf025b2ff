"""A run that is killed again and again ends with the bundle of a run that was left alone, to the byte."""

import os
import signal
import subprocess
import sys
import time

import pytest

from offline_jobs.steps import chosen
from service.bundle.reader import open_bundle, read_manifest
from service.bundle.store import versions

pytestmark = pytest.mark.timeout(900)

KILLED_IN = ("text_embeddings", "fusion", "fit")
PATIENCE_S = 300


def kill(command, there, log) -> None:
    """Start the command, and kill every process of it at once as soon as `there()` says so."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not there():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def assert_same(bundles, built) -> None:
    """The version, every file's checksum and the whole manifest but its clock; and no draft is left."""
    again, alone = (read_manifest(root / built.version) for root in (bundles, built.bundles))
    assert again.files == alone.files
    assert again.model_copy(update={"created_at": alone.created_at}) == alone
    open_bundle(bundles / built.version)
    assert sorted(path.name for path in bundles.iterdir()) == sorted([built.version, "CURRENT"])


def test_a_run_killed_at_several_stages_ends_with_the_same_bundle(run_command, built, tmp_path):
    work, bundles = tmp_path / "work", tmp_path / "bundles"
    command = run_command(built.data, work, bundles)
    for stage in KILLED_IN:
        opened = f"{stage}-*/out"
        kill(command, lambda opened=opened: any((work / ".scratch").glob(opened)), tmp_path / "log")
        assert not (work / stage).exists(), "nothing half-done has the stage's name"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("skipped: nothing has changed") == [step.stage for step in chosen()].index(KILLED_IN[-1])
    assert_same(bundles, built)


def test_publishing_killed_halfway_leaves_no_bundle_and_then_makes_the_same(built, tmp_path):
    bundles = tmp_path / "bundles"
    command = [sys.executable, "-m", "offline_jobs", "publish", "--work", str(built.work), "--bundles", str(bundles)]
    kill(command, lambda: any(bundles.glob(".draft-*/item_vectors.npy")), tmp_path / "log")
    assert versions(bundles) == []
    assert not (bundles / "CURRENT").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert_same(bundles, built)
