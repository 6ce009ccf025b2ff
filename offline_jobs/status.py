"""How far a work folder is: what ran, how long it took, how much memory, what is stale, what runs now."""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from offline_jobs.steps import OPTIONAL, STAGES, STEPS, Step
from service.errors import InputError
from training.stage import StageRecord, read_record


@dataclass(frozen=True)
class Line:
    """One line of the table that `run` and `status` print."""

    command: str
    seconds: float | None
    peak_mib: float | None
    state: str
    """done | outdated: X has changed | running now | interrupted | has not run; after a run: ran | skipped"""
    stage: str | None = None
    reads: tuple[str, ...] = ()


def print_status(work: Path, json_lines: bool, graph: Path | None) -> None:
    """Print how far a work folder is, as a table or as one JSON object a stage; draw the stages into `graph` too."""
    if not work.is_dir():
        raise InputError("no such folder", where=str(work), todo="Check --work")
    lines = status_lines(work)
    if graph is not None:
        from offline_jobs.stage_graph import draw

        draw(lines, graph)
    if json_lines:
        for line in lines:
            print(json.dumps(asdict(line)))
    else:
        Console(file=sys.stdout).print(table(lines, str(work)))


def records(work: Path) -> dict[str, StageRecord]:
    """The records of the stages that have finished in this work folder, by stage."""
    found = {stage: read_record(work / stage) for stage in STAGES}
    return {stage: record for stage, record in found.items() if record is not None}


def outdated(found: dict[str, StageRecord]) -> dict[str, str]:
    """Stages whose input has changed since -> the stage that has. What comes after them is outdated too."""
    changed: dict[str, str] = {}
    for stage in STAGES:
        if stage not in found:
            continue
        for name, digest in found[stage].inputs.items():
            source = "ingest" if name == "items" else name
            if source in found and (source in changed or digest != _digest(found[source], name)):
                changed[stage] = source
    return changed


def _digest(source: StageRecord, name: str) -> str:
    return source.outputs["items.parquet"].sha256 if name == "items" else source.output_digest


def status_lines(work: Path) -> list[Line]:
    """One line a stage: seconds and peak memory of its last run. Optional stages that never ran are left out."""
    found = records(work)
    changed = outdated(found)
    lines = []
    for step in STEPS:
        if step.stage is None or (step.optional and step.stage not in found and not _running(work, step.stage)):
            continue
        record = found.get(step.stage)
        seconds, peak = (None, None) if record is None else (record.wall_seconds, record.peak_rss_mib)
        reads = tuple(name for name in step.reads if name in found or name not in OPTIONAL)
        lines.append(Line(step.command, seconds, peak, _state(work, step, record, changed), step.stage, reads))
    return lines


def _state(work: Path, step: Step, record: StageRecord | None, changed: dict[str, str]) -> str:
    stage = step.stage or ""
    if _running(work, stage):
        return "running now"
    if record is None:
        return "interrupted: goes on from there" if _begun(work, stage) else "has not run"
    return f"outdated: {changed[stage]} has changed" if stage in changed else "done"


def _running(work: Path, stage: str) -> bool:
    """Whether a process holds the stage's lock."""
    try:
        with (work / ".locks" / stage).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _begun(work: Path, stage: str) -> bool:
    return any((work / ".scratch").glob(f"{stage}-*"))


def table(lines: Iterable[Line], title: str, wall_seconds: float | None = None) -> Table:
    """The lines as a table for people.

    `wall_seconds` is what the whole run took: less than the sum where steps ran side by side.
    """
    lines = list(lines)
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_footer=True)
    total = sum(line.seconds or 0 for line in lines)
    peak = max((line.peak_mib or 0 for line in lines), default=0)
    made.add_column("stage", footer="sum, highest")
    made.add_column("seconds", footer=f"{total:.1f}", justify="right")
    made.add_column("peak MiB", footer=f"{peak:.0f}", justify="right")
    made.add_column("", footer="" if wall_seconds is None else f"in {wall_seconds:.1f} s")
    for line in lines:
        seconds = "" if line.seconds is None else f"{line.seconds:.1f}"
        mib = "" if line.peak_mib is None else f"{line.peak_mib:.0f}"
        made.add_row(line.command, seconds, mib, line.state)
    return made
