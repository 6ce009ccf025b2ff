"""Which steps run side by side: by hand, and as rules that hold on any machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_jobs.schedule import LEAST_SHARE, ready, starts
from offline_jobs.steps import STEPS, chosen

BY_NAME = {step.command: step for step in STEPS}


def order(cores: int, at_most: int) -> list[list[str]]:
    """What is started in each round, where every step that runs ends before the next round."""
    waiting, finished, rounds = list(chosen()), set(), []
    made = {step.stage for step in waiting}
    while waiting:
        begun = starts(ready(waiting, finished, made), [], frozenset(range(cores)), at_most)
        assert begun, "a step can always start on an idle machine"
        rounds.append([start.step.command for start in begun])
        for start in begun:
            waiting.remove(start.step)
            finished.add(start.step.stage)
    return rounds


def test_on_two_cores_short_steps_pair_and_long_ones_have_the_machine():
    assert order(2, 2) == [
        ["ingest"],
        ["split", "embed-words"],
        ["embed-text"],
        ["embed-images"],
        ["fuse"],
        ["graph"],
        ["fit-model"],
        ["evaluate"],
        ["refit"],
        ["export", "index"],
        ["publish"],
    ]


def test_on_many_cores_text_and_images_share_them():
    assert order(16, 16)[1] == ["split", "embed-words", "embed-text", "embed-images"]


def test_one_at_a_time_is_the_order_of_the_steps():
    assert order(8, 1) == [[step.command] for step in chosen()]


def test_an_optional_step_is_waited_for_only_where_it_runs():
    images = BY_NAME["embed-images"]
    assert ready([images], {"ingest"}, {"ingest", "image_embeddings"}) == [images]
    assert ready([images], {"ingest"}, {"ingest", "images", "image_embeddings"}) == []
    assert [step.command for step in chosen(["fetch-images"])] == [step.command for step in STEPS]


def test_a_run_until_a_step_has_what_it_needs_and_no_more():
    assert [step.command for step in chosen(until="embed-words")] == ["ingest", "embed-words"]
    assert [step.command for step in chosen(until="graph")] == [step.command for step in chosen()][:7]
    assert chosen(until="publish") == chosen()


def test_no_step_reads_what_a_later_one_makes():
    made = set()
    for step in STEPS:
        assert set(step.reads) <= made, step.command
        made.add(step.stage)


@given(
    cores=st.integers(1, 32),
    at_most=st.integers(1, 32),
    able=st.lists(st.sampled_from(STEPS), unique=True),
    busy=st.lists(st.sampled_from(STEPS), unique=True, max_size=5),
)
def test_no_core_is_given_twice_and_no_more_run_than_asked(cores, at_most, able, busy):
    machine = frozenset(range(cores))
    before = starts(busy, [], machine, at_most)
    able = [step for step in able if step not in busy]
    begun = [*before, *starts(able, before, machine, at_most)]
    assert len(begun) <= at_most
    given_out = [core for start in begun for core in (machine if start.cores is None else start.cores)]
    assert len(given_out) == len(set(given_out)) <= cores
    for start in begun:
        if start.step.cores == "all":
            assert len(machine if start.cores is None else start.cores) >= min(LEAST_SHARE, cores)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.command)
def test_every_step_gets_the_idle_machine(step):
    (start,) = starts([step], [], frozenset(range(2)), 2)
    assert start.cores is None
