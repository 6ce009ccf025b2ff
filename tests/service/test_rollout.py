from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BundleError, BundleForeignError
from service.rollout import ROLLOUT, Part, Rollout, change_rollout, read_rollout

PARTS = st.none() | st.builds(Part, version=st.text(min_size=1), share=st.floats(0.001, 1))
ROLLOUTS = st.builds(Rollout, serving=st.text(), previous=st.text(), canary=PARTS, shadow=PARTS)


@given(ROLLOUTS)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rollout: Rollout) -> None:
    root = tmp_path_factory.mktemp("root")
    assert change_rollout(root, lambda old: rollout) == rollout
    assert read_rollout(root) == rollout


def test_no_file_is_an_empty_rollout(tmp_path: Path) -> None:
    assert read_rollout(tmp_path) == Rollout()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"serving": 1}', '{"canary": {"version": "v", "share": 2}}', '{"other": 1}']
)
def test_another_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / ROLLOUT).write_text(text)
    with pytest.raises(BundleForeignError, match=ROLLOUT):
        read_rollout(tmp_path)


def test_the_version_before_is_where_a_rollback_leads() -> None:
    first = Rollout().now_serving("a")
    assert (first.serving, first.previous) == ("a", "")
    second = first.now_serving("b")
    assert (second.serving, second.previous) == ("b", "a")
    assert second.now_serving("b") == second
    back = second.now_serving("a")
    assert (back.serving, back.previous) == ("a", "b")


def test_a_canary_that_becomes_current_is_none_any_more() -> None:
    before = Rollout(serving="a", canary=Part(version="b", share=0.1), shadow=Part(version="c", share=0.1))
    after = before.now_serving("b")
    assert after.canary is None
    assert after.shadow == before.shadow
    assert after.now_serving("c").shadow is None


def test_changes_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("spawn").Process(target=_append, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert read_rollout(tmp_path).serving == "x" * 60


def _append(root: Path) -> None:
    for _ in range(20):
        change_rollout(root, lambda old: old.model_copy(update={"serving": old.serving + "x"}))


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(BundleError, match="cannot be written to") as refused:
        change_rollout(gone, lambda old: old.now_serving("a"))
    assert str(gone) in str(refused.value)
    assert not os.path.exists(gone)
