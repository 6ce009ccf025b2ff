"""Readers take what is right as it is, and say what is wrong and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import FeedbackKind
from service.validation.shape import (
    MISSING,
    Shape,
    distinct,
    each_of,
    flag,
    many,
    number,
    table,
    text,
    whole,
    word,
)
from service.validation.violations import MOST_NAMED, Faults, FieldViolation, InvalidFieldsError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def read(reader, value, path="f"):
    """What the reader makes of the value, and the sentences of what is wrong with it."""
    faults = Faults()
    result = reader(value, path, faults)
    return result, [fault.message for fault in faults.named]


@pytest.mark.parametrize(
    ("reader", "value", "result"),
    [
        (whole(1, 200), 1, 1),
        (whole(1, 200), 200, 200),
        (number(0, 1), 0, 0.0),
        (number(0, 1), 0.5, 0.5),
        (flag, False, False),
        (text(4), "", ""),
        (text(4), "über"[:3], "übe"),
        (word(FeedbackKind), "cart", FeedbackKind.CART),
        (many(text(4), 2), [], ()),
        (many(text(4), 2), ["a", "b"], ("a", "b")),
        (distinct(many(text(4), 3)), ["a", "b"], ("a", "b")),
        (table(text(4), text(4), 2), {"a": "b"}, {"a": "b"}),
        (Shape({"a": flag}), {}, {}),
        (Shape({"a": flag}), {"a": None}, {}),
        (each_of(Shape({"a": flag}), dict), {"a": True}, {"a": True}),
    ],
)
def test_what_is_right_is_taken(reader, value, result):
    assert read(reader, value) == (result, [])


@pytest.mark.parametrize(
    ("reader", "value", "message"),
    [
        (whole(1, 200), 0, "f must be a whole number from 1 to 200"),
        (whole(1, 200), 1.0, "f must be a whole number from 1 to 200"),
        (whole(1, 200), True, "f must be a whole number from 1 to 200"),
        (whole(1, 200), "5", "f must be a whole number from 1 to 200"),
        (whole(1, 200), 10**9, "f must be a whole number from 1 to 200"),
        (number(0, 1), float("nan"), "f must be a number from 0 to 1"),
        (number(0, 1), float("inf"), "f must be a number from 0 to 1"),
        (number(0, 1), True, "f must be a number from 0 to 1"),
        (number(0, 1e12), -1, "f must be a number from 0 to 1000000000000"),
        (flag, 1, "f must be true or false"),
        (flag, "true", "f must be true or false"),
        (text(4), 5, "f must be text"),
        (text(4), "fünf!", "f must not be longer than 4 bytes of UTF-8 (it has 6)"),
        (text(4), "\ud800", "f must be valid Unicode (it holds half of a surrogate pair)"),
        (text(4, empty=False), "", f"f {MISSING}"),
        (word(FeedbackKind), "look", "f must be one of view, click, cart, purchase, dislike"),
        (word(FeedbackKind), ["cart"], "f must be one of view, click, cart, purchase, dislike"),
        (many(text(4), 2), "ab", "f must be a list"),
        (many(text(4), 2), ["a"] * 3, "f must hold at most 2 entries (it holds 3)"),
        (many(text(4), 2, empty=False), [], f"f {MISSING}"),
        (many(text(4), 2), ["a", 1], "f[1] must be text"),
        (distinct(many(text(4), 3)), ["a", "b", "a"], "f[2] stands in the list already"),
        (table(text(4), text(4), 2), [], "f must be an object"),
        (table(text(4), text(4), 1), {"a": "", "b": ""}, "f must hold at most 1 entries (it holds 2)"),
        (table(text(4), text(4), 1), {"a": 1}, "f.a must be text"),
        (Shape({"a": flag}), [], "f must be an object"),
        (Shape({"a": flag}, required=("a",)), {}, f"f.a {MISSING}"),
        (Shape({"a": flag}, required=("a",)), {"a": None}, f"f.a {MISSING}"),
        (Shape({"filter": flag}), {"fliter": 1}, "there is no field 'fliter'; is filter meant?"),
        (Shape({"filter": flag, "k": flag}), {"zz": 1}, "there is no field 'zz'; known are filter, k"),
        (each_of(Shape({"a": flag}), dict), {"a": 0}, "f.a must be true or false"),
    ],
)
def test_what_is_wrong_is_said(reader, value, message):
    assert read(reader, value)[1] == [message]


def test_the_path_leads_to_the_value():
    inner = Shape({"b": many(Shape({"c": flag}), 9)})
    faults = Faults()
    Shape({"a": inner})({"a": {"b": [{"c": True}, {"c": 1}]}}, "", faults)
    assert faults.named == [FieldViolation("a.b[1].c", "a.b[1].c must be true or false")]


def test_a_thousand_faults_are_counted_and_the_first_are_named():
    faults = Faults()
    Shape({})({f"field-{n}": 1 for n in range(1000)}, "", faults)
    with pytest.raises(InvalidFieldsError, match=f"and {1000 - MOST_NAMED} more") as caught:
        faults.check()
    assert len(caught.value.violations) == MOST_NAMED


def test_nothing_is_raised_where_nothing_is_wrong():
    Faults().check()


@given(value=PLAIN, known=st.sampled_from(["a", "b"]))
def test_any_value_is_read_or_refused(value, known):
    shape = Shape(
        {
            "a": each_of(Shape({"b": many(word(FeedbackKind), 3)}, required=("b",)), dict),
            "b": distinct(many(text(4, empty=False), 3)),
        },
        required=(known,),
    )
    for reader in (shape, whole(0, 9), number(0, 9), flag, text(3), word(FeedbackKind), table(text(9), shape, 3)):
        result, messages = read(reader, value)
        assert messages or result is not None
        assert all("f" in message for message in messages)
