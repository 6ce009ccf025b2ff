"""The stage `images`: the items' image URLs in, a folder of images and a ledger out.

<work>/images/ledger.parquet   one row an item whose image is a URL, in item_row order
<work>/images/files/ab/ab12....jpg   the images as they came, named by their sha256, one for all items that share it
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from offline_jobs.image_download.client import Lookup, system_lookup
from offline_jobs.image_download.download import download
from offline_jobs.image_download.journal import Journal, Outcome, Rules, read_journal, whole
from offline_jobs.image_download.settings import FetchImagesSettings
from training.stage import open_stage, read_record, require

log = logging.getLogger(__name__)

STAGE = "images"
VERSION = 1
LEDGER = "ledger.parquet"
IS_URL = r"(?i)^[a-z][a-z0-9+.-]*://"
OUTCOME_SCHEMA = {
    "state": pl.String, "reason": pl.String, "file": pl.String, "sha256": pl.String, "bytes": pl.Int64,
    "width": pl.Int32, "height": pl.Int32, "attempts": pl.Int32,
}  # fmt: skip


class _Described(FetchImagesSettings):
    """What makes a finished run what it is: a wish to try again counts, but is not kept."""

    retries: int = 0


def run_fetch_images(settings: FetchImagesSettings, work: Path, lookup: Lookup = system_lookup) -> None:
    """Fetch the images that the items name by URL.

    What is there, or was refused by the same limits, is not asked again; killed, it goes on where it was. `lookup`
    resolves host names.
    """
    ingest = require(work, "ingest")
    retries = _retries(settings, work / STAGE)
    described = _Described(**settings.model_dump(exclude={"retry_failed"}), retries=retries)
    store = work / ".images"
    inputs = {"items": ingest / "items.parquet"}
    with open_stage(work, STAGE, version=VERSION, inputs=inputs, settings=described) as stage:
        if stage.fresh:
            shutil.rmtree(store, ignore_errors=True)
            return
        items = _items(ingest / "items.parquet")
        urls = items["url"].unique(maintain_order=True).to_list()
        rules = Rules(settings.limits(), retries)
        known = _known(work / STAGE, rules) | read_journal(store, rules)
        known = {url: known[url] for url in urls if url in known}
        asked = [url for url in urls if url not in known]
        log.info("%s: %d URLs, %d known from before", STAGE, len(urls), len(known))
        _fetch(asked, known, store, rules, settings, lookup)
        _link({outcome.file for outcome in known.values() if outcome.file}, (store, work / STAGE), stage.out)
        ledger = _ledger(items, known)
        ledger.write_parquet(stage.out / LEDGER)
        states = Counter(ledger["state"].to_list())
        stage.count(
            items=len(ledger),
            urls=len(urls),
            asked=len(asked),
            ok=states["ok"],
            refused=states["refused"],
            failed=states["failed"],
            files=ledger["file"].n_unique() - int(ledger["file"].null_count() > 0),
        )
    shutil.rmtree(store, ignore_errors=True)


def _retries(settings: FetchImagesSettings, finished: Path) -> int:
    """The number of the round: one more than the finished run's where failed ones are to be asked again."""
    record = read_record(finished)
    if record is None:
        return 0
    before = int(str(record.settings.get("retries", 0)))
    return before + (settings.retry_failed and record.counts.get("failed", 0) > 0)


def _items(path: Path) -> pl.DataFrame:
    """(item_row, item_id, url) of the items whose image is a URL."""
    items = pl.read_parquet(path, columns=["item_id", "image"]).with_row_index("item_row")
    return items.filter(pl.col("image").str.contains(IS_URL)).select(
        pl.col("item_row").cast(pl.Int32), "item_id", url="image"
    )


def _known(finished: Path, rules: Rules) -> dict[str, Outcome]:
    """What a finished run found and still holds."""
    record = read_record(finished)
    if record is None:
        return {}
    limits = {name: record.settings.get(name) for name in rules.limits}
    earlier = Rules(limits, int(str(record.settings.get("retries", 0))))
    ledger = pl.read_parquet(finished / LEDGER, columns=["url", *OUTCOME_SCHEMA]).unique("url", maintain_order=True)
    entries = ((row.pop("url"), Outcome(**row)) for row in ledger.iter_rows(named=True))
    return dict(whole(entries, finished, rules, earlier))


def _fetch(
    urls: list[str],
    known: dict[str, Outcome],
    store: Path,
    rules: Rules,
    settings: FetchImagesSettings,
    lookup: Lookup,
) -> None:
    """Ask for `urls` and add their outcomes to `known`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    states: Counter[str] = Counter()
    with (
        Journal(store, rules, known) as journal,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("images", total=len(urls))

        def note(url: str, outcome: Outcome) -> None:
            journal.write(url, outcome)
            known[url] = outcome
            states[outcome.state] += 1
            progress.update(task, advance=1, description=_said(states))

        asyncio.run(download(urls, store, settings, note, lookup))


def _said(states: Mapping[str, int]) -> str:
    return f"images: {states.get('ok', 0)} ok, {states.get('refused', 0)} refused, {states.get('failed', 0)} failed"


def _link(files: set[str], sources: tuple[Path, ...], out: Path) -> None:
    """Give each file a second name below `out`, or a copy where the file system knows no second names."""
    (out / "files").mkdir()
    for file in sorted(files):
        source = next(folder / file for folder in sources if (folder / file).exists())
        target = out / file
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def _ledger(items: pl.DataFrame, known: Mapping[str, Outcome]) -> pl.DataFrame:
    """`items` with their URLs' outcomes, in item_row order."""
    outcomes = [known[url] for url in items["url"]]
    columns = {name: [getattr(outcome, name) for outcome in outcomes] for name in OUTCOME_SCHEMA}
    found = pl.DataFrame(columns, schema=OUTCOME_SCHEMA)
    return pl.concat([items, found], how="horizontal").sort("item_row")
