"""The fast way of reading JSON lines gives what the line-by-line reference gives, on any mixture of lines."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_jobs.readers import json_lines
from offline_jobs.readers.amazon2014 import AMAZON_2014
from offline_jobs.readers.json_lines import parse, parse_slowly
from offline_jobs.readers.lines import Block
from offline_jobs.readers.literals import parse_literal, parse_literal_slowly
from offline_jobs.readers.quarantine import RefusedRowError
from offline_jobs.readers.records import Parsed

FIELDS = AMAZON_2014.reviews
TEXT = st.text(alphabet=st.characters(), max_size=6)
VALUE = st.one_of(
    TEXT,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.lists(TEXT, max_size=2),
    st.recursive(
        st.none() | st.text(max_size=3), lambda inner: st.dictionaries(st.text(max_size=2), inner), max_leaves=4
    ),
)
GOOD = st.fixed_dictionaries(
    {
        "reviewerID": TEXT,
        "asin": st.sampled_from(["B1", "B2"]),
        "unixReviewTime": st.integers(0, 2**40) | st.floats(allow_nan=False, allow_infinity=False),
        "overall": st.floats(1, 5),
    },
    optional={"reviewText": TEXT, "summary": TEXT | st.none(), "helpful": st.lists(st.integers())},
)
ANY = st.dictionaries(st.sampled_from([field.name for field in FIELDS.values()] + ["other"]), VALUE)
WRITTEN = st.one_of(
    GOOD.map(lambda record: json.dumps(record).encode()),
    GOOD.map(lambda record: json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    ANY.map(lambda record: json.dumps(record).encode()),
)
ODD = st.sampled_from(
    [
        b"", b" ", b"{}", b"[]", b"null", b"{", b"}", b"{}{}", b'{"asin": "a"} {"asin": "b"}', b' {"asin": "a"}',
        b"{},",
        b'{"asin": "a", "asin": "b"}', b'{"asin": "\xff"}', b'{"asin": "\\ud800"}', b'{"asin": "\\udc00"}',
        b'{"asin": "\\u0000"}', b'{"asin": "\x00"}', b'{"asin": "a\tb"}', b'{"overall": NaN}', b'{"overall": -NaN}',
        b'{"overall": Inf}', b'{"overall": Infinity}', b'{"overall": -Infinity}', b'{"overall": 1e400}',
        b'{"overall": 01}', b'{"overall": 1.}', b'{"overall": .5}', b'{"overall": +1}', b'{"overall": "5"}',
        b'{"unixReviewTime": 123456789012345678901234567890}', b'{"other": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"other": 1e999, "asin": "a"}', b'{"\\u0061sin": "a"}', b'{"asin": 7}', b'{"asin": "a"}\x00',
        b'{"a": /**/ 1}',
        b'{"asin":', b'"a"}', b'{"asin": "a"', b'{"asin": "a"}}', b'\xef\xbb\xbf{"asin": "a"}', b'{"asin": "a"}\r',
    ]
)  # fmt: skip
LINES = st.lists(st.one_of(WRITTEN, WRITTEN, ODD, st.binary(max_size=12)), min_size=1, max_size=12)


def content(parsed: Parsed) -> tuple[str, list[int], list[tuple[int, str]]]:
    return repr(parsed.frame.to_dict(as_series=False)), parsed.numbers, sorted(parsed.refused)


@settings(max_examples=400, deadline=None)
@given(LINES, st.sampled_from([1, 40, 1 << 14]))
def test_the_fast_way_equals_the_reference(lines: list[bytes], small: int) -> None:
    block = Block(7, b"\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "SMALL_BYTES", small)
        fast = parse(block, FIELDS)
    slow = parse_slowly(block, FIELDS)
    assert fast.frame.schema == slow.frame.schema
    assert content(fast) == content(slow)


def test_a_plain_block_never_reaches_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Parsed:
        raise AssertionError("read line by line")

    monkeypatch.setattr(json_lines, "parse_slowly", fail)
    record = {
        "reviewerID": "u",
        "asin": "é",
        "unixReviewTime": 1,
        "overall": 5.0,
        "helpful": [0, 1],
        "reviewText": 'a"b',
    }
    parsed = parse(Block(3, b"\n".join([json.dumps(record).encode()] * 500)), FIELDS)
    assert parsed.frame.height == 500
    assert parsed.numbers == list(range(3, 503))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.dictionaries(st.text(max_size=4), VALUE | st.tuples(st.integers())).map(repr),
        st.text(alphabet="{}[]'\":, truefalsnNaIi\\019.-#()", max_size=25).map(lambda text: "{'a':" + text + "}"),
        st.sampled_from(["{'a': true}", "{'a': NaN}", "{'a': u'b'}", "{'a': 'b' 'c'}", "{'a': 0x1}", "{'a': 'b\tc'}"]),
    )
)
def test_literals_are_what_python_reads(text: str) -> None:
    reference = parse_literal_slowly(text)
    if reference is not None:
        assert repr(parse_literal(text)) == repr(reference)
        return
    reads: Callable[[str], object] = json_lines.parse_object
    try:
        expected = reads(text)
    except RefusedRowError:
        with pytest.raises(RefusedRowError):
            parse_literal(text)
    else:
        assert repr(parse_literal(text)) == repr(expected)
