from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.files import (
    CodedStrings,
    IdTable,
    StringTable,
    load_array,
    load_coded,
    load_ids,
    load_strings,
    save_coded,
    save_strings,
)
from service.errors import BundleCorruptError, InputError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.lists(texts, unique=True, max_size=40).map(lambda found: sorted(found, key=str.encode))


@given(strings=st.lists(texts, max_size=40))
def test_string_table_gives_back_what_it_was_made_of(strings: list[str]) -> None:
    table = StringTable.of(strings)
    assert list(table) == strings
    assert table[:] == strings
    assert [table.raw(row) for row in range(len(table))] == [s.encode() for s in strings]


@given(identifiers=ids, other=texts)
def test_id_table_finds_each_id_at_its_row_and_nothing_else(identifiers: list[str], other: str) -> None:
    table = IdTable.of(identifiers)
    assert [table.row(identifier) for identifier in identifiers] == list(range(len(identifiers)))
    assert table.row(other) == (identifiers.index(other) if other in identifiers else None)


def test_id_table_does_not_know_an_id_that_is_no_valid_text() -> None:
    assert IdTable.of(["a", "b"]).row("\ud800") is None


@pytest.mark.parametrize("identifiers", [["b", "a"], ["a", "a"], ["é", "z"], ["a", ""]])
def test_id_table_refuses_ids_out_of_order_or_twice(identifiers: list[str]) -> None:
    with pytest.raises(InputError, match="distinct and ascend"):
        IdTable.of(identifiers)


@given(
    raws=st.lists(st.lists(st.sampled_from([0, 1, 97, 255]), max_size=3).map(bytes), max_size=8),
    is_sorted=st.booleans(),
    cells=st.sampled_from([4, 16, 1 << 19]),
)
def test_ids_out_of_order_are_found_where_they_are(raws: list[bytes], is_sorted: bool, cells: int) -> None:
    """Against a plain loop, and where the parts that are compared at once meet."""
    raws = sorted(set(raws)) if is_sorted else raws
    offsets = np.cumsum([0, *map(len, raws)]).astype(np.int64)
    table = IdTable(np.frombuffer(b"".join(raws), np.uint8), offsets)
    wrong = next((row for row in range(1, len(raws)) if raws[row] <= raws[row - 1]), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.bundle.files.CELLS", cells)
        if wrong is None:
            table.check("ids")
        else:
            with pytest.raises(InputError, match=f"row {wrong} "):
                table.check("ids")


def test_tables_are_the_same_after_saving_and_mapping(tmp_path: Path) -> None:
    strings = ["", "Zoë", "日本", "a b"]
    values = ["x", None, "y", "x"]
    save_strings(tmp_path, "titles", StringTable.of(strings))
    save_strings(tmp_path, "ids", IdTable.of(["a", "é"]))
    save_coded(tmp_path, "brands", CodedStrings.of(values))
    assert list(load_strings(tmp_path, "titles")) == strings
    assert load_ids(tmp_path, "ids").row("é") == 1
    brands = load_coded(tmp_path, "brands")
    assert [brands.value(row) for row in range(len(brands))] == values


@given(values=st.lists(st.none() | texts, max_size=30))
def test_coded_strings_give_back_what_they_were_made_of(values: list[str | None]) -> None:
    column = CodedStrings.of(values)
    assert [column.value(row) for row in range(len(column))] == values


def test_a_mapped_array_is_read_only(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(ValueError, match="read-only"):
        load_array(tmp_path, "a")[0] = 1


def test_an_array_that_needs_pickle_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(BundleCorruptError, match="not a readable array"):
        load_array(tmp_path, "a")


@pytest.mark.parametrize("offsets", [[0, 5], [1, 3], [0, 4, 2, 3], []])
def test_offsets_that_do_not_fit_the_bytes_are_refused(tmp_path: Path, offsets: list[int]) -> None:
    np.save(tmp_path / "t.bytes.npy", np.frombuffer(b"abc", np.uint8))
    np.save(tmp_path / "t.offsets.npy", np.array(offsets, np.int64))
    with pytest.raises(BundleCorruptError, match="do not fit"):
        load_strings(tmp_path, "t")
