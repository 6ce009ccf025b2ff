"""Query strings are taken apart as the standard library does it, where that is strict enough."""

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.rest.query_string import MOST, flag, number, parameters, whole
from service.validation.violations import InvalidFieldsError

NAMES = ("a", "b", "ü x")


@given(
    st.lists(st.sampled_from(["a=", "b=1", "%C3%BC+x=", "&", "%41", "+", "é", "%", "%2", "%FF", "=", "a"]), max_size=9)
)
def test_it_reads_what_the_standard_library_reads(parts):
    raw = "".join(parts).encode()
    kinds = dict.fromkeys(NAMES, str)
    try:
        read = parameters(raw, kinds)
    except InvalidFieldsError:
        return
    assert read == dict(parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict"))


@given(st.dictionaries(st.sampled_from(NAMES), st.text(), max_size=3))
def test_what_is_encoded_comes_back(values):
    encoded = urlencode({name: text.encode("utf-8", "ignore") for name, text in values.items()}).encode()
    expected = {name: text.encode("utf-8", "ignore").decode() for name, text in values.items()}
    assert parameters(encoded, dict.fromkeys(NAMES, str)) == expected


@pytest.mark.parametrize(
    ("raw", "field"),
    [(b"\xff", "query"), (b"a=%FF", "query"), (b"a=1&a=2", "query"), (b"z=1", "z"), (b"a=1&" * (MOST + 1), "query")],
)
def test_what_is_refused(raw, field):
    with pytest.raises(InvalidFieldsError) as caught:
        parameters(raw, dict.fromkeys(NAMES, str))
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (whole, "7", 7),
        (whole, "-1", -1),
        (whole, "1e2", "1e2"),
        (whole, "٣", "٣"),
        (whole, "9" * 19, "9" * 19),
        (number, "0.5", 0.5),
        (number, "2", 2.0),
        (number, "nan", "nan"),
        (number, "1e5", "1e5"),
        (flag, "true", True),
        (flag, "false", False),
        (flag, "True", "True"),
    ],
)
def test_kinds(kind, text, value):
    assert kind(text) == value
