"""The column mapping of a shop's own tables: `shop.toml`, and the mappings that are built in.

[interactions]
file = "orders.csv"                  # .csv, .tsv (each also .gz) or .parquet
user_id = "customer"                 # names of columns
item_id = "sku"
timestamp = "bought_at"              # optional; without it a split by time is not possible
rating = "stars"                     # optional
review = ["{headline}", "{body}"]    # optional: the text of a review
timestamp_format = "auto"            # auto, unix, unix-ms, or a strptime pattern such as "%d.%m.%Y"

[items]
file = "products.csv"
item_id = "sku"
title = "{name}"                     # a text is made of columns ...
description = ["{colour} {type}.", "{details}"]   # ... or of parts; a part with an empty column is left out
price = "price"
image = "photos/{sku}.jpg"           # a file, "photos.tar::{sku}.jpg", or a column with URLs: "{url}"

[items.attributes]                   # further properties that shoppers filter by; made of columns as texts are
colour = "{colour}"
season = "{season} {year}"
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from offline_jobs.readers.times import check_pattern
from service.errors import DataError

MAPPING_FILE = "shop.toml"
COLUMN = re.compile(r"\{([^{}]+)\}")

Template = str | tuple[str, ...]

MAX_ATTRIBUTES = 32
KNOWN_PROPERTIES = frozenset(
    {"item_id", "title", "description", "brand", "category", "price", "stock", "image", "popularity"}
)
"""What a filter can name without a mapping."""


def _attribute_name(name: str) -> str:
    """The name as it is. Raises ValueError for one that a filter could not name, or that means something else."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ValueError(f"{name!r} is no name of an attribute: lower-case letters, digits and _, a letter first")
    if name in KNOWN_PROPERTIES:
        raise ValueError(f"{name!r} is a property of every item: choose another name")
    return name


AttributeName = Annotated[str, AfterValidator(_attribute_name)]


class InteractionMapping(BaseModel):
    """Where the interactions are and what their columns are called."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str
    """The file, relative to the shop's folder: .csv, .tsv (each also .gz) or .parquet."""
    user_id: str
    """Column with the shopper's id."""
    item_id: str
    """Column with the item's id."""
    timestamp: str | None = None
    """Column with the time of the purchase."""
    timestamp_format: Annotated[str, AfterValidator(check_pattern)] = "auto"
    """auto, unix (seconds), unix-ms, or a strptime pattern; times without a zone are UTC."""
    label: str | None = None
    """Column with a split made elsewhere: 0 train, 1 validation, 2 test."""

    rating: str | None = None
    """Column with the rating, stars or whatever the shop has."""
    review: Template = ()
    """The text of a review, parts with {column} in them."""

    def review_parts(self) -> tuple[str, ...]:
        """The parts of the review's text."""
        return (self.review,) if isinstance(self.review, str) else self.review

    def columns(self) -> list[str]:
        """Every column that is read."""
        named = [self.user_id, self.item_id, self.timestamp, self.label, self.rating]
        used = [name for part in self.review_parts() for name in COLUMN.findall(part)]
        return list(dict.fromkeys(name for name in [*named, *used] if name))


class ItemMapping(BaseModel):
    """Where the items are and how their texts are made of columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str
    """The file, relative to the shop's folder."""
    item_id: str
    """Column with the item's id."""
    title: Template = ()
    """Parts with {column} in them; a part with an empty column is left out."""
    description: Template = ()
    """As title."""
    brand: Template = ()
    """As title."""
    category: Template = ()
    """As title; one name, used for filters and for what is popular in a category."""
    price: str | None = None
    """Column with the price."""
    image: str | None = None
    """One pattern: a file, `archive.tar::member`, or a URL."""
    attributes: dict[AttributeName, Template] = Field(default_factory=dict, max_length=MAX_ATTRIBUTES)
    """Name -> as title: properties of few distinct values that shoppers filter by, such as colour."""

    def parts(self, field: str) -> tuple[str, ...]:
        """The parts of one text field."""
        value: Template = getattr(self, field)
        return (value,) if isinstance(value, str) else value

    def attribute_parts(self) -> dict[str, tuple[str, ...]]:
        """Name -> the parts of each attribute."""
        return {name: (value,) if isinstance(value, str) else value for name, value in self.attributes.items()}

    def columns(self) -> list[str]:
        """Every column that is read."""
        templates = [p for f in ("title", "description", "brand", "category") for p in self.parts(f)]
        templates += [part for parts in self.attribute_parts().values() for part in parts]
        used = [name for part in [*templates, self.image or ""] for name in COLUMN.findall(part)]
        return list(dict.fromkeys([self.item_id, *used, *([self.price] if self.price else [])]))


class Mapping(BaseModel):
    """A whole `shop.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    interactions: InteractionMapping
    items: ItemMapping | None = Field(default=None)
    """Without it the items are known by their ids alone."""


FASHION_WEEK = Mapping(
    interactions=InteractionMapping(
        file="transactions.parquet",
        user_id="customer_id",
        item_id="article_id",
        timestamp="t_dat",
        timestamp_format="%Y-%m-%d",
    ),
    items=ItemMapping(
        file="items.parquet",
        item_id="article_id",
        title="{prod_name}",
        category="{product_type_name}",
        # Type and colour first: encoders cut long texts at the end, and these two say most about a garment.
        description=(
            "{colour_group_name} {product_type_name}, {graphical_appearance_name}.",
            "{section_name}, {department_name}.",
            "{detail_desc}",
        ),
        image="images_128.tar::{article_id}.jpg",
        attributes={
            "colour": "{colour_group_name}",
            "colour_family": "{perceived_colour_master_name}",
            "pattern": "{graphical_appearance_name}",
            "product_group": "{product_group_name}",
            "garment_group": "{garment_group_name}",
            "department": "{department_name}",
            "section": "{section_name}",
            "audience": "{index_group_name}",
        },
    ),
)
"""H&M's tables. Prices in `transactions` are scaled and change from day to day: no item price is derived."""


def read_mapping(data: Path) -> Mapping:
    """The `shop.toml` of a folder. Raises DataError naming the key that is wrong."""
    path = data / MAPPING_FILE
    todo = f"See docs/DATA_FORMATS.md for what {MAPPING_FILE} may hold"
    try:
        return Mapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), todo=todo) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"not valid TOML ({error})", where=str(path), todo=todo) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{key}: {first['msg']}", where=str(path), todo=todo) from error
