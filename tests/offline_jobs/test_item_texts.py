import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_jobs.item_texts import distinct_texts, read_texts, split_fields
from service.errors import DataError
from service.item_texts import TEXT_FIELDS

SCHEMA = dict.fromkeys(TEXT_FIELDS, pl.String)
CELLS = st.one_of(st.none(), st.text(alphabet="ab.é \t\n 日", max_size=6))


def items_file(folder, rows):
    pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(folder / "items.parquet")
    return folder / "items.parquet"


def test_text_is_title_category_brand_description(tmp_path):
    rows = [
        ("Cotton baby bodysuit", "Baby", "Acme", "Soft,  with\npress-studs."),
        ("Leather boots", None, None, " Warm.. "),
        (None, None, None, None),
        ("  ", None, "", "."),
    ]
    file = items_file(tmp_path, rows)
    assert read_texts(file) == [
        "Cotton baby bodysuit. Baby. Acme. Soft, with press-studs",
        "Leather boots. Warm",
        "",
        "",
    ]
    assert read_texts(file, "brand, title")[:2] == ["Acme. Cotton baby bodysuit", "Leather boots"]


@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=6))
def test_texts_are_what_a_plain_loop_makes_of_the_cells(tmp_path_factory, rows):
    plain = [". ".join(part for cell in row if cell and (part := " ".join(cell.split()).rstrip("."))) for row in rows]
    assert read_texts(items_file(tmp_path_factory.mktemp("items"), rows)) == plain


def test_missing_column_is_named(tmp_path):
    pl.DataFrame({"title": ["a"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"items\.parquet: a text column is missing"):
        read_texts(tmp_path / "items.parquet")


@given(st.lists(st.text(max_size=5)))
def test_every_text_is_found_at_its_row(texts):
    distinct, rows = distinct_texts(texts)
    assert [distinct[row] if row >= 0 else "" for row in rows] == texts
    assert len(set(distinct)) == len(distinct)
    assert [len(text) for text in distinct] == sorted((len(text) for text in distinct), reverse=True)


@pytest.mark.parametrize("fields", ["", "title,price", "title,title"])
def test_fields_that_are_no_texts_are_refused(fields):
    with pytest.raises(ValueError, match="the fields are some of title,category,brand,description"):
        split_fields(fields)
