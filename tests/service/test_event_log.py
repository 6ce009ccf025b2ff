from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.domain import Degradation, Impression, Strategy
from service.errors import InputError
from service.event_log import EventLog

IMPRESSION = Impression(
    event_id="e1",
    recommendation_id="r1",
    request_id="q1",
    user_id='Zoë "&"\n',
    timestamp=1_600_000_000.25,
    item_ids=("a", "b"),
    scores=(1.5, 0.5),
    strategy=Strategy.PERSONAL,
    bundle_version="v1",
    degraded=(Degradation.CACHE_UNAVAILABLE,),
    cached=False,
    transport="grpc",
)
DAY_FILE = f"impressions-20200913-{os.getpid()}.jsonl"


@pytest.fixture
def results() -> list[str]:
    return []


@pytest.fixture
def event_log(tmp_path: Path, results: list[str]) -> Iterator[EventLog]:
    opened = EventLog(tmp_path / "a" / "events", results.append)
    yield opened
    opened.close()


def test_a_line_holds_the_whole_impression(event_log: EventLog, tmp_path: Path, results: list[str]) -> None:
    event_log.write(IMPRESSION)
    (line,) = (tmp_path / "a" / "events" / DAY_FILE).read_text().splitlines()
    assert json.loads(line) == json.loads(json.dumps(dataclasses.asdict(IMPRESSION)))
    assert results == ["written"]


def test_each_day_has_its_file(event_log: EventLog, tmp_path: Path) -> None:
    event_log.write(IMPRESSION)
    event_log.write(dataclasses.replace(IMPRESSION, timestamp=IMPRESSION.timestamp + 86_400))
    event_log.write(IMPRESSION)
    lines = {path.name: len(path.read_text().splitlines()) for path in (tmp_path / "a" / "events").iterdir()}
    assert lines == {DAY_FILE: 2, DAY_FILE.replace("20200913", "20200914"): 1}


def test_a_second_log_appends(event_log: EventLog, tmp_path: Path, results: list[str]) -> None:
    event_log.write(IMPRESSION)
    second = EventLog(tmp_path / "a" / "events", results.append)
    second.write(IMPRESSION)
    second.close()
    assert len((tmp_path / "a" / "events" / DAY_FILE).read_text().splitlines()) == 2


def test_a_text_that_json_cannot_hold_costs_one_line_and_no_error(event_log: EventLog, results: list[str]) -> None:
    event_log.write(dataclasses.replace(IMPRESSION, user_id="\ud800"))
    assert event_log.state == "failing"
    event_log.write(IMPRESSION)
    assert event_log.state == "ok"
    assert results == ["failed", "written"]


def test_a_full_disk_is_counted_and_spoils_no_other_line(
    event_log: EventLog, tmp_path: Path, results: list[str]
) -> None:
    """A real limit on the file's size cuts the second line short, as a full disk does."""
    event_log.write(IMPRESSION)
    path = tmp_path / "a" / "events" / DAY_FILE
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
        event_log.write(IMPRESSION)
        event_log.write(IMPRESSION)
        assert event_log.state == "failing"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    event_log.write(IMPRESSION)
    assert results == ["written", "failed", "failed", "written"]
    lines = path.read_bytes().splitlines()
    assert [len(line) for line in lines] == [size - 1, 20, size - 1]
    assert json.loads(lines[0]) == json.loads(lines[2])


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="PLOTPOINTE_EVENTS_DIR"):
        EventLog(tmp_path / "file" / "events", print)
