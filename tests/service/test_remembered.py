from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from service.remembered import Remembered


class Source:
    """Equal to every other one: only identity tells them apart."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source)

    def __hash__(self) -> int:
        return 0


@given(asked=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2))), most=st.integers(1, 4))
def test_each_gets_its_own_and_the_latest_are_made_once(asked: list[tuple[int, int]], most: int) -> None:
    sources = [Source(number) for number in range(6)]
    remembered: Remembered[Source, tuple[int, int]] = Remembered(most)
    model: dict[tuple[int, int], None] = {}
    made: list[tuple[int, int]] = []

    def making(each: tuple[int, int]) -> Callable[[], tuple[int, int]]:
        def make() -> tuple[int, int]:
            made.append(each)
            return each

        return make

    for each in asked:
        before = len(made)
        assert remembered.get(sources[each[0]], each[1], making(each)) == each
        assert len(made) - before == (each not in model)
        model.pop(each, None)
        model[each] = None
        if len(model) > most:
            del model[next(iter(model))]
        assert len(remembered) == len(model)


def test_a_source_lives_as_long_as_it_is_remembered() -> None:
    remembered: Remembered[Source, int] = Remembered(1)
    source = Source(1)
    alive = weakref.ref(source)
    remembered.get(source, None, lambda: 1)
    del source
    gc.collect()
    assert alive() is not None
    remembered.get(Source(2), None, lambda: 2)
    gc.collect()
    assert alive() is None
