"""How an item's parts become its text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.item_texts import TEXT_FIELDS, item_text, joined

parts = st.lists(st.none() | st.text(alphabet="ab.é \t\n 日", max_size=6), max_size=4)


def test_parts_are_tidied_and_joined() -> None:
    assert joined(["A  cap.", None, " ", "...", "of\nwool.."]) == "A cap. of wool"
    assert joined([]) == ""


def test_the_fields_say_which_and_in_which_order() -> None:
    item = {"description": "Of wool.", "title": "Cap", "brand": None}
    assert item_text(item) == "Cap. Of wool"
    assert item_text(item, ("description", "title")) == "Of wool. Cap"
    assert TEXT_FIELDS[0] == "title"


@given(given=parts)
def test_nothing_blank_is_left(given: list[str | None]) -> None:
    text = joined(given)
    assert not text.startswith(" ")
    assert "  " not in text
    assert ("a" in text) == any("a" in (part or "") for part in given)
