"""An item's text: how its parts become the one text that is encoded, offline and online alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

TEXT_FIELDS = ("title", "category", "brand", "description")
"""The parts that an item's text can have, in the order in which they stand where no setting says otherwise."""


def item_text(parts: Mapping[str, str | None], fields: Iterable[str] = TEXT_FIELDS) -> str:
    """The named parts that are there, joined by ". "; empty where there is none."""
    return joined(parts.get(field) for field in fields)


def joined(parts: Iterable[str | None]) -> str:
    """Parts of a text in their order: white space collapsed, dots at a part's end dropped, what is blank left out."""
    tidy = (" ".join(part.split()).rstrip(".") for part in parts if part)
    return ". ".join(part for part in tidy if part)
