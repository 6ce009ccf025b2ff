"""Publishing what is there already, what is worse, and what is broken; and the demo, from its start to Ctrl-C."""

import os
import re
import shutil
import signal
import subprocess
import sys

import httpx
import pytest

from offline_jobs.status import records
from offline_jobs.steps import STAGES, STEPS
from service.bundle.manifest import Manifest
from service.bundle.reader import read_manifest
from service.bundle.store import activate, active_version, versions
from service.bundle.writer import new_bundle

pytestmark = pytest.mark.timeout(900)


def publish(built, root, *flags) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "offline_jobs", "publish", "--work", str(built.work), "--bundles", str(root)]
    return subprocess.run([*command, *flags], capture_output=True, text=True, check=False)


@pytest.fixture
def root(built, tmp_path):
    """A copy of the bundles, to change."""
    return shutil.copytree(built.bundles, tmp_path / "bundles")


def test_the_run_says_what_each_step_took(built):
    for step in ("ingest", "embed-text", "fuse", "fit-model", "export", "index", "publish"):
        assert re.search(rf"^ +{step} +\d+\.\d +\d+ +ran *$", built.output, re.MULTILINE), step
    assert built.output.rstrip().endswith(built.version)


def test_every_step_waits_for_what_it_reads(built):
    """What a stage has recorded as its inputs is what the runner waits for, directly or through another stage."""
    reads = {step.stage: set(step.reads) for step in STEPS}
    for stage, record in records(built.work).items():
        waited_for = set()
        more = reads[stage]
        while more - waited_for:
            waited_for |= more
            more = set().union(*(reads[name] for name in more))
        used = {"ingest" if name == "items" else name for name in record.inputs} & set(STAGES)
        assert used <= waited_for, stage


def test_publishing_again_changes_nothing(built, root):
    before = (root / built.version / "manifest.json").read_bytes()
    result = publish(built, root)
    assert (result.returncode, result.stdout) == (0, f"{built.version}\n")
    assert versions(root) == [built.version]
    assert (root / built.version / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in root.iterdir()) == sorted([built.version, "CURRENT"])


def test_a_worse_bundle_is_published_but_not_activated_without_force(built, tmp_path):
    root = tmp_path / "bundles"
    better = publish_better(built, root)
    result = publish(built, root)
    assert result.returncode == 2
    line = result.stderr.strip().splitlines()[-1]
    for word in ("published, but not activated", "recall@20 fell", built.version, better, "--force"):
        assert word in line
    assert active_version(root) == better
    assert versions(root) == sorted([better, built.version])
    forced = publish(built, root, "--force")
    assert forced.returncode == 0
    assert active_version(root) == built.version


def publish_better(built, root) -> str:
    """The same bundle, but said to be of higher recall; active."""
    manifest = read_manifest(built.bundle)
    described = {name: getattr(manifest, name) for name in Manifest.model_fields}
    for field in ("format_version", "version", "created_at", "files"):
        del described[field]
    lifted = {name: value * 1.2 for name, value in manifest.evaluation.metrics.items()}
    described["evaluation"] = manifest.evaluation.model_copy(update={"metrics": lifted})
    with new_bundle(root) as draft:
        for name in manifest.files:
            draft.file(name, built.bundle / name)
        version = draft.publish(**described).version
    activate(root, version)
    return version


def test_an_unknown_metric_is_refused_and_nothing_is_written(built, tmp_path):
    result = publish(built, tmp_path / "bundles", "--metric", "recall@21")
    assert result.returncode == 2
    assert "error: --metric: the evaluation has no 'recall@21'" in result.stderr
    assert not (tmp_path / "bundles").exists()


def test_a_bundle_that_was_tampered_with_is_not_taken_for_the_same(built, root):
    victim = root / built.version / "reranker.onnx"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x00")
    result = publish(built, root)
    assert result.returncode == 2
    assert re.search(r"error: \S+reranker.onnx: sha256 is", result.stderr)
    assert sorted(path.name for path in root.iterdir()) == sorted([built.version, "CURRENT"])


def test_an_outdated_stage_is_not_published(built, tmp_path):
    work = shutil.copytree(built.work, tmp_path / "work")
    split = [sys.executable, "-m", "offline_jobs", "split", "--work", str(work), "--kind", "random"]
    subprocess.run(split, check=True, capture_output=True)
    command = [sys.executable, "-m", "offline_jobs", "publish", "--work", str(work)]
    result = subprocess.run([*command, "--bundles", str(tmp_path / "b")], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "was made before 'split' changed" in result.stderr
    assert not (tmp_path / "b").exists()


def test_the_demo_shows_three_answers_serves_on_and_ends_with_ctrl_c(built, quick):
    flags = ["--data", str(built.data), "--work", str(built.work), "--rest-port", "0", "--grpc-port", "0", *quick]
    with subprocess.Popen(
        [sys.executable, "-m", "offline_jobs", "demo", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if line.startswith("Ctrl-C stops"):
                    break
            assert said.count("skipped: nothing has changed") == said.count(" --work ")
            assert said.count('"strategy": "personal"') == said.count('"strategy": "popular"') == 1
            assert 'strategy: "personal"' in said, "the gRPC answer"
            shown = re.search(r"curl '(http://\S+)'", said)[1]
            first = re.search(r'"item_id": "(\w+)"', said)[1]
            assert httpx.get(shown).json()["items"][0]["item_id"] == first
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the demo and to the service at once
            assert process.wait(30) == 0
        finally:
            process.kill()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(shown)
