"""Item texts as the text stages read them: which columns, in which order, and each distinct text once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import AfterValidator

from service.errors import DataError
from service.item_texts import TEXT_FIELDS, joined


def split_fields(fields: str) -> list[str]:
    """The columns that `title,brand` names, in its order. Raises ValueError for one that is no text, or named twice."""
    names = [name.strip() for name in fields.split(",")]
    if not set(names) <= set(TEXT_FIELDS) or len(set(names)) < len(names):
        raise ValueError(f"the fields are some of {','.join(TEXT_FIELDS)}, each once")
    return names


def _checked(fields: str) -> str:
    return ",".join(split_fields(fields))


TextFields = Annotated[str, AfterValidator(_checked)]
"""A setting: text columns in their order, with commas between."""
ALL_FIELDS = ",".join(TEXT_FIELDS)


def read_texts(items: Path, fields: str = ALL_FIELDS) -> list[str]:
    """One text an item, in item_row order, as `service.item_texts` composes it; empty where the item has none.

    Raises DataError where a column is missing.
    """
    cells = [pl.col(field).cast(pl.String) for field in split_fields(fields)]
    try:
        table = pl.scan_parquet(items).select(cells).collect()
    except pl.exceptions.ColumnNotFoundError as error:
        raise DataError(
            f"a text column is missing ({error})", where=str(items), todo="Run the ingest stage again"
        ) from error
    return [joined(parts) for parts in table.iter_rows()]


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Each text that is not empty once, longest first (a batch too large for memory fails at once).

    Also (len(texts),) int64: each text's row in that list, -1 where it is empty.
    """
    distinct = sorted({text for text in texts if text}, key=lambda text: (-len(text), text))
    row_of = {text: row for row, text in enumerate(distinct)}
    return distinct, np.array([row_of.get(text, -1) for text in texts], np.int64)
