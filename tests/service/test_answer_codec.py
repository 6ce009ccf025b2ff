from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answer_codec import FORMAT, MOST_VALUE_BYTES, AnswerCodec, Stored
from service.domain import Answer, Reason, Strategy

NUM_ITEMS = 10
CODEC = AnswerCodec(NUM_ITEMS)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
REASONS = st.builds(Reason, kind=st.sampled_from(["history", "look"]), weight=NUMBERS, item_id=TEXTS, effect=NUMBERS)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    rows = draw(st.lists(st.integers(0, NUM_ITEMS - 1), unique=True))
    scores = draw(st.lists(NUMBERS, min_size=len(rows), max_size=len(rows)))
    reasons = draw(st.lists(st.lists(REASONS, max_size=3).map(tuple), min_size=len(rows), max_size=len(rows)))
    explained = draw(st.booleans())
    return Answer(
        tuple(rows), tuple(scores), draw(st.sampled_from(Strategy)), reasons=tuple(reasons) if explained else ()
    )


@given(answer=answers(), key=TEXTS, life_ms=st.integers(1, 86_400_000))
def test_an_encoded_answer_is_the_same_after_decoding(answer: Answer, key: str, life_ms: int) -> None:
    data = CODEC.encode(key, answer, life_ms)
    assert data is not None
    assert CODEC.decode(key, data) == Stored(answer, life_ms)
    assert CODEC.decode(key + "x", data) is None


def test_everything_an_answer_holds_is_written() -> None:
    """A new field has to be written too, or shared answers lose it; then raise FORMAT and extend this list."""
    names = [field.name for field in dataclasses.fields(Answer)]
    assert names == ["rows", "scores", "strategy", "degraded", "reasons"]
    assert [field.name for field in dataclasses.fields(Reason)] == ["kind", "weight", "item_id", "effect"]


GOOD: dict[str, Any] = {
    "format": FORMAT,
    "key": "a",
    "life_ms": 1000,
    "strategy": "personal",
    "rows": [1, 2],
    "scores": [0.5, 0.25],
    "reasons": [[["history", 0.5, "x", 0.1]], []],
}
REASON = ["history", 0.5, "x", 0.1]

STRANGE: list[Any] = [
    b"",
    b"\x80\x04\x95",
    b"[" * 5000,
    b'"a"',
    b"null",
    b"[]",
    b"{}",
    GOOD | {"key": "b"},
    GOOD | {"key": ["a"]},
    GOOD | {"format": FORMAT + 1},
    GOOD | {"format": None},
    GOOD | {"life_ms": 0},
    GOOD | {"life_ms": 10**12},
    GOOD | {"life_ms": 1.5},
    GOOD | {"life_ms": True},
    GOOD | {"rows": [1, NUM_ITEMS]},
    GOOD | {"rows": [-1, 2]},
    GOOD | {"rows": [1, 1]},
    GOOD | {"rows": [1]},
    GOOD | {"rows": [True, 2]},
    GOOD | {"rows": [[1], [2]]},
    GOOD | {"rows": [1, "2"]},
    GOOD | {"rows": [1, None]},
    GOOD | {"rows": "12"},
    GOOD | {"rows": None},
    GOOD | {"rows": [1, 2**63]},
    GOOD | {"scores": [0.5, None]},
    GOOD | {"scores": [0.5]},
    GOOD | {"scores": {"0": 0.5}},
    GOOD | {"scores": ["0.5", 0.25]},
    orjson.dumps(GOOD).replace(b"0.25", b"1e999"),
    GOOD | {"strategy": "bribed"},
    GOOD | {"strategy": ["personal"]},
    GOOD | {"degraded": []},
    GOOD | {"reasons": None},
    GOOD | {"reasons": [[]]},
    GOOD | {"reasons": [[], None]},
    GOOD | {"reasons": [[REASON[:3]], []]},
    GOOD | {"reasons": [[["k" * 65, *REASON[1:]]], []]},
    GOOD | {"reasons": [[[None, *REASON[1:]]], []]},
    GOOD | {"reasons": [[["history", "0.5", "x", 0.1]], []]},
    GOOD | {"reasons": [[["history", 0.5, 7, 0.1]], []]},
    GOOD | {"reasons": [[["history", 0.5, "x" * 513, 0.1]], []]},
    GOOD | {"reasons": [[["history", 0.5, "x", None]], []]},
    *({name: GOOD[name] for name in GOOD if name != missing} for missing in GOOD),
]


@pytest.mark.parametrize("value", STRANGE)
def test_a_value_that_was_not_written_here_is_none(value: Any) -> None:
    assert CODEC.decode("a", orjson.dumps(GOOD)) is not None
    assert CODEC.decode("a", value if isinstance(value, bytes) else orjson.dumps(value)) is None


@given(answer=answers(), data=st.data())
def test_a_value_that_was_damaged_is_none_or_whole(answer: Answer, data: st.DataObject) -> None:
    """Whatever bytes there are, what comes out keeps the bounds of an answer."""
    written = CODEC.encode("a", answer, 1000)
    assert written is not None
    place = data.draw(st.integers(0, len(written) - 1))
    damaged = written[:place] + data.draw(st.binary(max_size=3)) + written[place + data.draw(st.integers(0, 3)) :]
    stored = CODEC.decode("a", damaged)
    rows = () if stored is None else stored.answer.rows
    assert all(0 <= row < NUM_ITEMS for row in rows)
    assert stored is None or len(stored.answer.scores) == len(set(rows)) == len(rows)


def test_what_is_too_long_is_not_written() -> None:
    wide = AnswerCodec(100_000)
    most = Answer(tuple(range(99_000, 100_000)), (0.12345678901234567,) * 1000, Strategy.PERSONAL)
    data = wide.encode("a", most, 1000)
    assert data is not None
    assert len(data) < MOST_VALUE_BYTES / 4
    assert wide.encode("x" * MOST_VALUE_BYTES, most, 1000) is None


class Live:
    """Live items of one process: ids by row."""

    def __init__(self, *item_ids: str) -> None:
        self._item_ids = item_ids

    def item_id(self, row: int) -> str | None:
        place = row - NUM_ITEMS
        return self._item_ids[place] if 0 <= place < len(self._item_ids) else None

    def row(self, item_id: str) -> int | None:
        return NUM_ITEMS + self._item_ids.index(item_id) if item_id in self._item_ids else None


def test_a_live_item_is_found_at_the_row_that_it_has_here() -> None:
    here, there = AnswerCodec(NUM_ITEMS, Live("x", "y")), AnswerCodec(NUM_ITEMS, Live("new", "y", "x"))
    answer = Answer((11, 3, 10), (0.3, 0.2, 0.1), Strategy.PERSONAL)
    data = here.encode("a", answer, 1000)
    assert data is not None
    stored = there.decode("a", data)
    assert stored is not None
    assert stored.answer.rows == (11, 3, 12)  # y, 3, x


def test_a_live_item_that_is_not_known_here_makes_a_miss() -> None:
    data = AnswerCodec(NUM_ITEMS, Live("x")).encode("a", Answer((10,), (0.5,), Strategy.PERSONAL), 1000)
    assert data is not None
    assert AnswerCodec(NUM_ITEMS, Live("y")).decode("a", data) is None
    assert CODEC.decode("a", data) is None


def test_an_answer_with_an_item_that_has_just_gone_is_not_written() -> None:
    answer = Answer((10,), (0.5,), Strategy.PERSONAL)
    assert AnswerCodec(NUM_ITEMS, Live()).encode("a", answer, 1000) is None
    assert CODEC.encode("a", answer, 1000) is None


def test_what_a_retired_bundle_knew_is_no_error() -> None:
    live = Live("x")
    codec = AnswerCodec(NUM_ITEMS, weakref.proxy(live))
    answer = Answer((10,), (0.5,), Strategy.PERSONAL)
    data = codec.encode("a", answer, 1000)
    assert data is not None
    assert codec.decode("a", data) == Stored(answer, 1000)
    del live
    assert codec.encode("a", answer, 1000) is None
    assert codec.decode("a", data) is None
