"""A stage finishes whole or not at all, and only when there is something to do."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from service.errors import StageBusyError, StageError
from training.stage import open_stage, peak_rss_kib, read_record, require


class Settings(BaseModel):
    size: int = 1


def run(work: Path, source: Path, *, size: int = 1, version: int = 1, text: str = "made") -> bool:
    """Whether the stage had anything to do."""
    settings = Settings(size=size)
    with open_stage(work, "cut", version=version, inputs={"source": source}, settings=settings) as stage:
        if stage.fresh:
            return False
        (stage.out / "deep").mkdir()
        (stage.out / "deep" / "result.txt").write_text(text + source.read_text() * size)
        stage.count(rows=3)
    return True


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("input")
    return path


def test_nothing_is_done_twice_and_every_change_is_seen(tmp_path: Path, source: Path) -> None:
    work = tmp_path / "work"
    assert run(work, source)
    assert not run(work, source)
    assert run(work, source, size=2)
    assert run(work, source, size=2, version=2)
    source.write_text("changed")
    assert run(work, source, size=2, version=2)
    assert (work / "cut" / "deep" / "result.txt").read_text() == "madechangedchanged"


def test_the_record_says_what_was_made(tmp_path: Path, source: Path) -> None:
    run(tmp_path / "work", source)
    record = read_record(tmp_path / "work" / "cut")
    assert record is not None
    assert record.settings == {"size": 1}
    assert record.counts == {"rows": 3.0}
    assert list(record.outputs) == ["deep/result.txt"]
    assert record.outputs["deep/result.txt"].size == len("madeinput")
    assert record.peak_rss_mib > 1


def test_a_later_stage_sees_that_an_earlier_one_was_made_anew(tmp_path: Path, source: Path) -> None:
    work = tmp_path / "work"
    run(work, source)

    def later() -> bool:
        with open_stage(work, "later", version=1, inputs={"cut": work / "cut"}, settings=Settings()) as stage:
            return not stage.fresh

    assert later()
    assert not later()
    run(work, source, text="other")  # nothing changed that it knows of
    assert not later()
    source.write_text("changed")
    run(work, source)
    assert later()


def test_an_error_leaves_the_earlier_result_and_the_scratch(tmp_path: Path, source: Path) -> None:
    work = tmp_path / "work"
    run(work, source)
    source.write_text("changed")

    def fail(*, again: bool) -> None:
        with open_stage(work, "cut", version=1, inputs={"source": source}, settings=Settings()) as stage:
            assert not any(stage.out.iterdir()), "what a dead run left in `out` is gone"
            assert (stage.scratch / "shard").exists() == again, "finished shards are handed back"
            (stage.scratch / "shard").write_text("finished")
            (stage.out / "half").write_text("done")
            raise RuntimeError("half way")

    for again in (False, True):
        with pytest.raises(RuntimeError, match="half way"):
            fail(again=again)
    assert (work / "cut" / "deep" / "result.txt").read_text() == "madeinput"
    run(work, source)
    assert not any((work / ".scratch").iterdir()), "nothing is left behind once it is finished"


def hold(work: Path, source: Path, ready: Path) -> None:
    with open_stage(work, "cut", version=1, inputs={"source": source}, settings=Settings()) as stage:
        (stage.out / "half").write_text("done")
        ready.write_text("")
        time.sleep(60)


def test_a_second_process_is_refused_and_a_killed_one_leaves_nothing(tmp_path: Path, source: Path) -> None:
    work, ready = tmp_path / "work", tmp_path / "ready"
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(work, source, ready))
    process.start()
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(StageBusyError, match="being run by another process"):
            run(work, source)
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert not (work / "cut").exists()
    assert run(work, source)
    assert not (work / "cut" / "half").exists()


def test_what_is_missing_is_named(tmp_path: Path, source: Path) -> None:
    with pytest.raises(StageError, match=r"gone.txt: no such file or folder"):
        run(tmp_path / "work", tmp_path / "gone.txt")
    with pytest.raises(StageError, match="stage 'cut' has not run"):
        require(tmp_path / "work", "cut")
    run(tmp_path / "work", source)
    (tmp_path / "work" / "cut" / "stage.json").write_text("{")
    with pytest.raises(StageError, match="Delete that folder"):
        require(tmp_path / "work", "cut")


def test_peak_memory_is_this_process_own() -> None:
    before = peak_rss_kib()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_rss_kib() >= before
    assert peak_rss_kib() > 64 << 10
