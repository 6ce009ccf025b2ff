"""The steps from a shop's files to a published bundle, in order, and what their records say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from training.stage import StageRecord, read_record


@dataclass(frozen=True)
class Step:
    """One command of the pipeline."""

    command: str
    """Its name: `embed-text` of `plotpointe-jobs embed-text`."""
    stage: str | None
    """The stage folder that it makes in the work folder; None for publish, which makes a bundle."""
    module: str = "offline_jobs"
    """The package whose `__main__` has the command."""
    reads_data: bool = False
    """Whether it reads the shop's own folder, beside the work folder."""


STEPS = (
    Step("ingest", "ingest", reads_data=True),
    Step("split", "split"),
    Step("embed-text", "text_embeddings"),
    Step("embed-words", "lexical_embeddings"),
    Step("embed-images", "image_embeddings", reads_data=True),
    Step("fuse", "fusion"),
    Step("graph", "graphs"),
    Step("fit", "fit", "training"),
    Step("evaluate", "evaluate", "training"),
    Step("refit", "refit", "training"),
    Step("export", "export", "training"),
    Step("index", "index"),
    Step("publish", None),
)

STAGES = tuple(step.stage for step in STEPS if step.stage is not None)


@dataclass(frozen=True)
class Line:
    """One line of the table that `run` and `status` print."""

    command: str
    seconds: float | None
    peak_mib: float | None
    state: str


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
    """How far the work folder is, one line a stage: seconds and peak memory of its last run."""
    found = records(work)
    changed = outdated(found)
    lines = []
    for step in STEPS:
        if step.stage is None:
            continue
        record = found.get(step.stage)
        if record is None:
            lines.append(Line(step.command, None, None, "has not run"))
        else:
            state = f"outdated: {changed[step.stage]} has changed" if step.stage in changed else "done"
            lines.append(Line(step.command, record.wall_seconds, record.peak_rss_mib, state))
    return lines


def table(lines: Iterable[Line], title: str) -> Table:
    """The lines as a table for people."""
    lines = list(lines)
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_footer=True)
    total = sum(line.seconds or 0 for line in lines)
    peak = max((line.peak_mib or 0 for line in lines), default=0)
    made.add_column("stage", footer="total, highest")
    made.add_column("seconds", footer=f"{total:.1f}", justify="right")
    made.add_column("peak MiB", footer=f"{peak:.0f}", justify="right")
    made.add_column("")
    for line in lines:
        seconds = "" if line.seconds is None else f"{line.seconds:.1f}"
        mib = "" if line.peak_mib is None else f"{line.peak_mib:.0f}"
        made.add_row(line.command, seconds, mib, line.state)
    return made
