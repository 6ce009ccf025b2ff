"""Which steps may start now, and on which cores: independent steps run side by side where there is room.

A step whose long part runs on one core shares the machine with others of its kind. A step that can use every core is
given a share of at least `LEAST_SHARE` of them, so that on a small machine two such steps run one after the other:
halving the cores would leave one core idle as soon as the shorter of the two ends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from offline_jobs.steps import Step

LEAST_SHARE = 4
"""Cores that a step with `cores="all"` waits for, or all of a smaller machine."""


@dataclass(frozen=True)
class Start:
    """A step that may start, and the cores that it gets; `cores` None leaves it the whole machine."""

    step: Step
    cores: frozenset[int] | None


def ready(waiting: Sequence[Step], finished: Collection[str], chosen: Collection[str | None]) -> list[Step]:
    """Steps of `waiting` whose stages have finished; a stage that no step of this run makes is not waited for."""
    return [step for step in waiting if all(stage in finished or stage not in chosen for stage in step.reads)]


def starts(able: Sequence[Step], busy: Sequence[Start], cores: frozenset[int], at_most: int) -> list[Start]:
    """What to start now, beside what is `busy`, on a machine with these cores and at most so many steps at once."""
    room = at_most - len(busy)
    free = cores - frozenset().union(*(cores if start.cores is None else start.cores for start in busy))
    if room <= 0 or not free:
        return []
    if at_most == 1 or (len(able) == 1 and free == cores):
        return [Start(step, None) for step in able[:1]]
    least = min(LEAST_SHARE, len(cores))
    single = [step for step in able if step.cores == "one"][: min(room, len(free))]
    left = len(free) - len(single)
    whole = [step for step in able if step.cores == "all"][: max(0, min(room - len(single), left // least))]
    shares = [1] * len(single) + [left // max(1, len(whole))] * len(whole)
    names = sorted(free)
    begun = []
    for step, share in zip((*single, *whole), shares, strict=True):
        mine, names = frozenset(names[:share]), names[share:]
        begun.append(Start(step, None if mine == cores else mine))
    return begun
