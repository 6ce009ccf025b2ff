"""`report`: one page about the models of a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from service.errors import InputError
from training.files import write_whole
from training.report.page import report_page
from training.report.run_results import read_run
from training.run import work_of

log = logging.getLogger(__name__)


class ReportSettings(BaseModel):
    """What the page is about."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    metric: Literal["recall@10", "recall@20", "ndcg@10", "ndcg@20"] = "recall@20"
    """Metric that models are ordered and compared by."""
    against: str = ""
    """Model that differences are taken to; the strongest baseline where it is not given."""
    title: str = ""
    """Heading of the page; made from the data set's name where it is not given."""


def run_report(settings: ReportSettings, run: Path, out: Path) -> None:
    """Write the page about a run folder to `out`, whole or not at all. Raises DataError where nothing can be said.

    A run is a folder with results of a ladder, or one that `fit` made, whose evaluation is shown then.
    """
    evaluated = work_of(run) / "evaluate"
    run = evaluated if evaluated.is_dir() and not (run / "results").is_dir() else run
    if not out.parent.is_dir():
        raise InputError("there is no such folder", where=str(out.parent), todo="Make it, or write the page elsewhere")
    page = report_page(read_run(run, metric=settings.metric, against=settings.against), title=settings.title)
    write_whole(out, page)
    log.info("wrote %s", out)
