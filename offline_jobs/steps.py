"""The steps from a shop's files to a published bundle: what each reads, and how much of the machine it can use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Step:
    """One command of the pipeline."""

    command: str
    """Its name: `embed-text` of `plotpointe-jobs embed-text`."""
    stage: str | None
    """The stage folder that it makes in the work folder; None for publish, which makes a bundle."""
    reads: tuple[str, ...] = ()
    """The stages that must have finished before it."""
    cores: Literal["one", "all"] = "one"
    """Whether its long part runs on one core or on all that it gets."""
    module: str = "offline_jobs"
    """The package whose `__main__` has the command."""
    reads_data: bool = False
    """Whether it reads the shop's own folder, beside the work folder."""
    optional: bool = False
    """Whether it runs only where it is asked for."""


LEARNED_FROM = ("ingest", "split", "lexical_embeddings", "fusion", "graphs")

STEPS = (
    Step("ingest", "ingest", cores="all", reads_data=True),
    Step("fetch-images", "images", ("ingest",), optional=True),
    Step("split", "split", ("ingest",)),
    Step("embed-text", "text_embeddings", ("ingest",), cores="all"),
    Step("embed-words", "lexical_embeddings", ("ingest",)),
    Step("embed-images", "image_embeddings", ("ingest", "images"), cores="all", reads_data=True),
    Step(
        "fuse",
        "fusion",
        ("ingest", "split", "text_embeddings", "lexical_embeddings", "image_embeddings"),
        cores="all",
    ),
    Step("graph", "graphs", ("ingest", "split", "text_embeddings", "image_embeddings", "fusion"), cores="all"),
    Step("fit-model", "fit", LEARNED_FROM, cores="all", module="training"),
    Step("evaluate", "evaluate", (*LEARNED_FROM, "fit"), cores="all", module="training"),
    Step("refit", "refit", (*LEARNED_FROM, "fit"), cores="all", module="training"),
    Step("export", "export", ("split", "fusion", "graphs", "fit", "refit"), module="training"),
    Step("index", "index", ("ingest", "split", "refit")),
    Step("publish", None, ("evaluate", "export", "index")),
)

STAGES = tuple(step.stage for step in STEPS if step.stage is not None)
OPTIONAL = frozenset(step.stage for step in STEPS if step.optional)


def chosen(asked: Collection[str] = (), until: str | None = None) -> tuple[Step, ...]:
    """The steps of a run: all that are not optional, and those of `asked`; what is left out is not waited for.

    With `until`, that command and those alone that it needs, directly or through another.
    """
    steps = tuple(step for step in STEPS if not step.optional or step.command in asked)
    if until is None:
        return steps
    needed: set[str | None] = set()
    kept = []
    for step in reversed(steps):
        if step.command == until or step.stage in needed:
            kept.append(step)
            needed.update(step.reads)
    return tuple(reversed(kept))
