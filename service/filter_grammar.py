"""The grammar of filters: text in, a tree of conditions out, or an error that says at which column and what would do.

The syntax is that of Google's retail search. NOT binds closer than AND, AND closer than OR.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import cast

import numpy as np
from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedToken

from service.errors import InvalidFilterError
from service.filter_tree import (
    ATTRIBUTE,
    AVAILABILITY,
    FIELDS,
    IN_STOCK,
    OUT_OF_STOCK,
    PRICE,
    AnyOf,
    Both,
    Either,
    Node,
    Not,
    Within,
)

MAX_CHARACTERS = 4_096
MAX_DEPTH = 64
"""Deepest nesting of parentheses and NOTs."""
MAX_VALUES = 256
"""Most values in all the lists of a filter and ranges of the price together: each is compared with every item."""

MOST_QUOTED = 20
"""Characters of a filter that an error repeats."""
LARGEST = float(np.finfo(np.float32).max)
"""Prices are float32."""

EXAMPLE = 'A filter looks like this: category: ANY("Phones", "Tablets") AND price < 50 AND NOT brand: ANY("X")'

GRAMMAR = r"""
    ?start: either
    ?either: both | both (_OR both)+            -> either
    ?both: term | term (_AND term)+             -> both
    ?term: (_NOT | "-") term                    -> negated
        | "(" either ")"                        -> group
        | name ":" _ANY "(" STRING ("," STRING)* ")"  -> any_of
        | name ":" _IN "(" BOUND "," BOUND ")"  -> within
        | name COMPARISON NUMBER                -> compared
    ?name: NAME | STRING

    _AND.2: /AND(?![\w.-])/
    _OR.2: /OR(?![\w.-])/
    _NOT.2: /NOT(?![\w.-])/
    _ANY.2: /ANY(?![\w.-])/
    _IN.2: /IN(?![\w.-])/
    NAME: /[^\W\d][\w.-]*/
    STRING: /"(?:[^"\\]|\\["\\])*"/
    COMPARISON: "<=" | "<" | ">=" | ">" | "="
    NUMBER: /-?(?:\d+(?:\.\d*)?|\.\d+)(?![\w.])/
    BOUND: /\*|-?(?:\d+(?:\.\d*)?|\.\d+)[ie]?(?![\w.])/
    %ignore /\s+/
"""

WORDS = {
    "_AND": "AND",
    "_OR": "OR",
    "_NOT": "NOT",
    "MINUS": "-",
    "_ANY": "ANY(...)",
    "_IN": "IN(...)",
    "NAME": "a field",
    "STRING": 'a text in "double quotes"',
    "COMPARISON": "<, <=, >, >= or =",
    "NUMBER": "a number",
    "BOUND": "a number with i (included) or e (excluded), or *",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": ",",
    "COLON": ":",
    "$END": "the end",
}
"""Terminals of the grammar, for people."""


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part of a filter. Its measures are taken on the way up: no limit is found out by recursion."""

    node: Node
    text: str
    """The one way to write what is equal up to whitespace, order and repetition. It can be parsed again."""
    depth: int = 0
    values: int = 0


def parse(text: str, where: str) -> Part:
    """Read a filter. Raises InvalidFilterError; `where` names the request's field that holds the filter."""
    column: int | None
    try:
        if len(text) > MAX_CHARACTERS:
            raise _RefusedError(f"a filter has at most {MAX_CHARACTERS} characters, this one has {len(text)}")
        text.encode()
        return cast(Part, PARSER.parse(text))  # the transformer makes parts, not trees
    except _RefusedError as error:
        what, column = error.what, error.column
    except UnicodeEncodeError as error:
        what, column = "half of a character that is written in two (a lone surrogate)", error.start + 1
    except UnexpectedToken as error:
        ends = error.token.type == "$END"
        column = len(text) + 1 if ends else _column(error.token)
        found = "the filter ends" if ends else f"there is {_quoted(error.token)}"
        what = f"{found} where {_expected(error.accepts or error.expected)} is expected"
    except UnexpectedCharacters as error:
        start = error.pos_in_stream or 0
        rest, column = text[start:], start + 1
        what = f"there is {_quoted(rest)} where {_expected(error.allowed)} is expected"
        if rest.startswith('"'):
            what = 'a text does not end, or has a backslash before something else than " or \\'
    raise invalid(what, column, where)


def invalid(what: str, column: int | None, where: str) -> InvalidFilterError:
    """The error to raise about what stands at a column, from 1; None where it is about the whole filter."""
    return InvalidFilterError(what if column is None else f"column {column}: {what}", where=where, todo=EXAMPLE)


class _RefusedError(Exception):
    def __init__(self, what: str, column: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.column = column


class _Builder(Transformer[Token, Part]):
    """Called by the parser for each rule that it has read, innermost first; the methods are named as the rules."""

    def either(self, parts: list[Part]) -> Part:
        return _joined(Either, " OR ", parts)

    def both(self, parts: list[Part]) -> Part:
        return _joined(Both, " AND ", parts)

    def negated(self, parts: list[Part]) -> Part:
        part = _deeper(parts[0])
        return replace(part, node=Not(part.node), text=f"NOT {_inside(Not, part)}")

    def group(self, parts: list[Part]) -> Part:
        return _deeper(parts[0])

    def any_of(self, tokens: list[Token]) -> Part:
        name, column = _name(tokens[0]), _column(tokens[0])
        if name == PRICE:
            raise _RefusedError("price is a number: compare it, as in price < 50 or price: IN(10, 50)", column)
        for token in tokens[1:]:
            if name == AVAILABILITY and _text(token) not in (IN_STOCK, OUT_OF_STOCK):
                raise _RefusedError(f'availability is "{IN_STOCK}" or "{OUT_OF_STOCK}"', _column(token))
        values = tuple(sorted({_text(token) for token in tokens[1:]}))
        text = f"{_written(name)}: ANY({', '.join(map(_literal, values))})"
        return _bounded(Part(AnyOf(name, values, column), text, values=len(tokens) - 1))

    def within(self, tokens: list[Token]) -> Part:
        _must_be_price(tokens[0])
        low, low_end = _bound(tokens[1], -inf)
        high, high_end = _bound(tokens[2], inf)
        # As Google has it: a range without i or e includes its lower bound and not its upper.
        return _range(Within(low, high, low_end != "e" or low == -inf, high_end == "i" or high == inf))

    def compared(self, tokens: list[Token]) -> Part:
        _must_be_price(tokens[0])
        comparison, number = str(tokens[1]), _number(tokens[2], str(tokens[2]))
        included = comparison.endswith("=")
        low = -inf if comparison.startswith("<") else number
        high = inf if comparison.startswith(">") else number
        return _range(Within(low, high, included or low == -inf, included or high == inf))


PARSER = Lark(GRAMMAR, parser="lalr", transformer=_Builder())


def _joined(kind: type[Both] | type[Either], word: str, parts: list[Part]) -> Part:
    """Terms joined by AND or OR: each once, in the order of their texts."""
    nodes = {_inside(kind, part): part.node for part in parts}
    texts = sorted(nodes)
    return _bounded(
        Part(
            kind(tuple(nodes[text] for text in texts)) if len(texts) > 1 else nodes[texts[0]],
            word.join(texts) if len(texts) > 1 else parts[0].text,
            max(part.depth for part in parts),
            sum(part.values for part in parts),
        )
    )


def _inside(kind: type[Both] | type[Either] | type[Not], part: Part) -> str:
    """A term's text, in parentheses where it would come apart otherwise."""
    comes_apart = isinstance(part.node, Both | Either) and not (kind is Either and isinstance(part.node, Both))
    return f"({part.text})" if comes_apart else part.text


def _deeper(part: Part) -> Part:
    return _bounded(replace(part, depth=part.depth + 1))


def _bounded(part: Part) -> Part:
    if part.depth > MAX_DEPTH:
        raise _RefusedError(f"parentheses and NOTs may be nested {MAX_DEPTH} deep, and here they are deeper")
    if part.values > MAX_VALUES:
        raise _RefusedError(f"a filter has at most {MAX_VALUES} values and ranges, and this one has more")
    return part


def _range(node: Within) -> Part:
    ends = [
        "*" if np.isinf(bound) else np.format_float_positional(np.float32(bound), trim="-") + ("e", "i")[included]
        for bound, included in ((node.low, node.low_included), (node.high, node.high_included))
    ]
    return Part(node, f"{PRICE}: IN({ends[0]}, {ends[1]})", values=1)


def _name(token: Token) -> str:
    name = _text(token)
    return name if name in FIELDS or name.startswith(ATTRIBUTE) else ATTRIBUTE + name


def _must_be_price(token: Token) -> None:
    if _name(token) != PRICE:
        raise _RefusedError(f'{_quoted(token)} is a text: name its values, as in ANY("a", "b")', _column(token))


def _bound(token: Token, if_open: float) -> tuple[float, str]:
    """A bound of a range and its ending: `i`, `e` or none."""
    text = str(token)
    return (if_open, "") if text == "*" else (_number(token, text.rstrip("ie")), text[-1])


def _number(token: Token, text: str) -> float:
    number = float(text)
    if abs(number) > LARGEST:
        raise _RefusedError("no price is as large as that", _column(token))
    return float(np.float32(number)) + 0.0  # prices are float32, so "= 49.99" must be; and there is one zero


def _text(token: Token) -> str:
    """What a string or a bare name says."""
    return re.sub(r"\\(.)", r"\1", token[1:-1]) if token.type == "STRING" else str(token)


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _written(name: str) -> str:
    """A field as it is written: attributes bare, but for those that would then be read as something else."""
    short = name.removeprefix(ATTRIBUTE)
    if short in FIELDS or short.startswith(ATTRIBUTE):
        short = name
    bare = re.fullmatch(r"[^\W\d][\w.-]*", short) and short not in ("AND", "OR", "NOT", "ANY", "IN")
    return short if bare else _literal(short)


def _column(token: Token) -> int:
    return int(token.start_pos or 0) + 1


def _quoted(text: str) -> str:
    """The beginning of what stands there."""
    return f"`{text.split()[0][:MOST_QUOTED]}`" if text.split() else "nothing"


def _expected(terminals: Iterable[str]) -> str:
    words = sorted(WORDS[name] for name in terminals)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
