"""The column mapping: a wrong key is named, and the documentation knows every key."""

import tomllib
from pathlib import Path

import pytest

from offline_jobs.readers import FORMATS, open_shop
from offline_jobs.readers.mapping import InteractionMapping, ItemMapping, Mapping
from service.errors import DataError
from tests.offline_jobs.readers.folders import SHOP_TOML, table


def test_a_missing_column_names_it_and_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"products\.csv: missing column 'colour'; found 'sku', 'name'"):
        open_shop(table(tmp_path / "shop", products="sku,name,kind,details,price\n"))
    with pytest.raises(DataError, match="column 'sku' is there twice"):
        open_shop(table(tmp_path / "shop", orders="customer,sku,at,sku\n"))
    (tmp_path / "x.inter").write_text("buyer\titem_id\n1\t2\n")
    with pytest.raises(DataError, match=r"x\.inter:1: no column for user_id; found buyer, item_id"):
        open_shop(tmp_path)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[interactions", "not valid TOML"),
        ("[interactions]\nfile = 'a.csv'\n", "interactions.user_id: Field required"),
        (SHOP_TOML.replace("orders.csv", "../orders.csv"), "leaves the shop's folder"),
        (SHOP_TOML.replace("orders.csv", "orders.xlsx"), "no such file"),
        (SHOP_TOML.replace('"at"', '"at"\ntimestamp_format = "soon"'), "'soon' is neither auto"),
        (SHOP_TOML.replace('"at"', '"at"\ntimestamp_format = "%H"'), "'%H' is neither auto"),
        (SHOP_TOML + 'colour = "x"\n', "items.colour: Extra inputs are not permitted"),
        (SHOP_TOML + "[items.attributes]\nColour = '{x}'\n", "'Colour' is no name of an attribute"),
        (SHOP_TOML + "[items.attributes]\nprice = '{x}'\n", "'price' is a property of every item"),
        (SHOP_TOML + "[items.attributes]\nshade = '{shade}'\n", r"products\.csv: missing column 'shade'"),
    ],
)
def test_a_wrong_mapping_names_the_key(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_shop(table(tmp_path / "shop", toml=toml))


def test_the_documentation_names_every_format_and_key() -> None:
    text = (Path(__file__).parents[3] / "docs/DATA_FORMATS.md").read_text()
    for word in (*FORMATS, *InteractionMapping.model_fields, *ItemMapping.model_fields):
        assert f"`{word}`" in text
    example = text.split("```toml\n")[1].split("```")[0]
    Mapping.model_validate(tomllib.loads(example))
