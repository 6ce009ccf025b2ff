"""Statements: feedback events, live items, bundles to serve. Plain values -> domain values or InvalidFieldsError."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from service.domain import MAX_EVENTS, MAX_ID_BYTES, FeedbackEvent, FeedbackKind, ItemChange
from service.validation.picture import picture
from service.validation.queries import IDENTIFIER, MAX_UNIX_S, SHARE
from service.validation.shape import ROOT, Shape, distinct, each_of, flag, many, number, table, text, word
from service.validation.violations import Faults, FieldViolation, InvalidFieldsError

MAX_TITLE_BYTES = 2048
MAX_DESCRIPTION_BYTES = 32_768
MAX_ATTRIBUTES = 32
MAX_PRICE = 1e12
A_DAY_S = 86_400.0
"""How far ahead of the service's clock an event may be."""

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NAME = text(MAX_ID_BYTES)


@dataclass(frozen=True, slots=True)
class BundleShare:
    """A bundle, and the share of the users or of the requests that it gets; a share of 0 ends it."""

    version: str
    share: float


@dataclass(frozen=True, slots=True)
class CatalogCall:
    """What one call asks of the live catalogue: exactly one of the three holds something."""

    upsert: tuple[ItemChange, ...] = ()
    patch: tuple[ItemChange, ...] = ()
    delete: tuple[str, ...] = ()


def _moment(value: object, path: str, faults: Faults) -> float:
    moment: float = number(0, MAX_UNIX_S)(value, path, faults)
    if moment > time.time() + A_DAY_S:
        faults.add(path, "must be in unix seconds and not more than a day ahead")
    return moment


def _event(**fields: Any) -> FeedbackEvent:
    fields.setdefault("timestamp", time.time())
    return FeedbackEvent(**fields)


EVENT = Shape(
    {
        "event_id": IDENTIFIER,
        "user_id": IDENTIFIER,
        "item_id": IDENTIFIER,
        "kind": word(FeedbackKind),
        "timestamp": _moment,
        "recommendation_id": text(128),
    },
    required=("event_id", "user_id", "item_id", "kind"),
)
ITEM = Shape(
    {
        "item_id": IDENTIFIER,
        "title": text(MAX_TITLE_BYTES),
        "description": text(MAX_DESCRIPTION_BYTES),
        "category": _NAME,
        "brand": _NAME,
        "price": number(0, MAX_PRICE),
        "in_stock": flag,
        "hidden": flag,
        "image_url": text(2048),
        "image": picture,
        "attributes": table(text(64, empty=False), _NAME, MAX_ATTRIBUTES),
    },
    required=("item_id",),
)
_ITEMS = many(each_of(ITEM, ItemChange), MAX_EVENTS, empty=False)
_ITEM_IDS = distinct(many(IDENTIFIER, MAX_EVENTS, empty=False))
EVENTS = Shape({"events": many(each_of(EVENT, _event), MAX_EVENTS, empty=False)}, required=("events",))
CALL = Shape({"upsert": _ITEMS, "patch": _ITEMS, "delete": _ITEM_IDS})
SHARE_OF = Shape({"version": text(128), "share": SHARE}, required=("share",))


def feedback_events(values: object) -> tuple[FeedbackEvent, ...]:
    """The events of one call, all of them in order; one that is wrong refuses the call."""
    faults = Faults()
    fields = EVENTS(values, "", faults)
    faults.check()
    events: tuple[FeedbackEvent, ...] = fields["events"]
    return events


def item_changes(values: object) -> tuple[ItemChange, ...]:
    """`{"items": [...]}`: the changed items of one call, none of them twice."""
    faults = Faults()
    fields = Shape({"items": _ITEMS}, required=("items",))(values, "", faults)
    _once(fields.get("items", ()), "items", faults)
    faults.check()
    changes: tuple[ItemChange, ...] = fields["items"]
    return changes


def removed_items(values: object) -> tuple[str, ...]:
    """`{"item_ids": [...]}`: the items to take out, none of them twice."""
    faults = Faults()
    fields = Shape({"item_ids": _ITEM_IDS}, required=("item_ids",))(values, "", faults)
    faults.check()
    item_ids: tuple[str, ...] = fields["item_ids"]
    return item_ids


def catalog_call(values: object) -> CatalogCall:
    """`{"upsert": [...]}`, `{"patch": [...]}` or `{"delete": [...]}`."""
    if isinstance(values, dict) and len({"upsert", "patch", "delete"} & values.keys()) != 1:
        raise InvalidFieldsError(FieldViolation(ROOT, "exactly one of upsert, patch and delete must be given"))
    faults = Faults()
    fields = CALL(values, "", faults)
    for name in ("upsert", "patch"):
        _once(fields.get(name, ()), name, faults)
    faults.check()
    return CatalogCall(**fields)


def item_change(item_id: str, values: object) -> ItemChange:
    """The change of the one item that a path names; the body may name it again, but no other."""
    if not isinstance(values, dict):
        raise InvalidFieldsError(FieldViolation(ROOT, f"{ROOT} must be an object"))
    if values.get("item_id", item_id) != item_id:
        raise InvalidFieldsError(FieldViolation("item_id", "item_id must be the path's, or be left out"))
    faults = Faults()
    fields = ITEM(values | {"item_id": item_id}, "", faults)
    faults.check()
    return ItemChange(**fields)


def identifier(item_id: str, name: str = "item_id") -> str:
    """An id that stands alone, as in a path."""
    faults = Faults()
    IDENTIFIER(item_id, name, faults)
    faults.check()
    return item_id


def bundle_version(version: object) -> str:
    """A bundle's version: the name of a folder, and never a path."""
    if isinstance(version, str) and _VERSION.fullmatch(version):
        return version
    message = "version must be 1 to 128 letters, digits, dots, hyphens and underscores, a letter or digit first"
    raise InvalidFieldsError(FieldViolation("version", message))


def bundle_share(values: object) -> BundleShare:
    """A bundle and its share; the version may be left out where the share is 0."""
    faults = Faults()
    fields = SHARE_OF(values, "", faults)
    faults.check()
    share, version = fields["share"], fields.get("version", "")
    return BundleShare(bundle_version(version) if share or version else "", share)


def _once(changes: tuple[ItemChange | None, ...], name: str, faults: Faults) -> None:
    """An item that stands in a list twice is a fault: which of the two should hold?"""
    seen: set[str] = set()
    for place, change in enumerate(changes):
        if change is not None and change.item_id in seen:
            faults.add(f"{name}[{place}].item_id", "stands in the list already")
        elif change is not None:
            seen.add(change.item_id)
