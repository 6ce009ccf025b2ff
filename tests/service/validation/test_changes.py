"""Statements become domain values, or the fields at fault."""

import base64
import time

import pytest

from service.domain import MAX_EVENTS, FeedbackEvent, FeedbackKind, ItemChange
from service.validation.changes import (
    BundleShare,
    CatalogCall,
    bundle_share,
    bundle_version,
    catalog_call,
    feedback_events,
    identifier,
    item_change,
    item_changes,
    removed_items,
)
from service.validation.violations import InvalidFieldsError

EVENT = {"event_id": "e", "user_id": "u", "item_id": "i", "kind": "view"}


def fields_of(read, *values) -> list[str]:
    with pytest.raises(InvalidFieldsError) as caught:
        read(*values)
    return [violation.field for violation in caught.value.violations]


def test_events():
    told = feedback_events({"events": [EVENT | {"timestamp": 7, "recommendation_id": "r"}]})
    assert told == (FeedbackEvent("e", "u", "i", FeedbackKind.VIEW, 7.0, "r"),)
    before = time.time()
    [now] = feedback_events({"events": [EVENT]})
    assert before <= now.timestamp <= time.time()


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"kind": "look"}, ["events[0].kind"]),
        ({"event_id": ""}, ["events[0].event_id"]),
        ({"item_id": None}, ["events[0].item_id"]),
        ({"user_id": "u" * 513}, ["events[0].user_id"]),
        ({"timestamp": -1}, ["events[0].timestamp"]),
        ({"timestamp": 1_758_499_321_500}, ["events[0].timestamp"]),
        ({"timestamp": 4_102_444_800}, ["events[0].timestamp"]),
        ({"price": 3}, ["events[0].price"]),
    ],
)
def test_a_wrong_event_refuses_the_call(change, fields):
    assert fields_of(feedback_events, {"events": [EVENT | change, EVENT]}) == fields


@pytest.mark.parametrize("values", [{}, {"events": []}, {"events": [EVENT] * (MAX_EVENTS + 1)}, {"events": 5}])
def test_what_are_no_events(values):
    assert fields_of(feedback_events, values) == ["events"]


def test_an_item():
    values = {"title": "T", "price": 5, "in_stock": False, "attributes": {"color": "red"}, "image": "AQI="}
    assert item_change("i", values) == ItemChange(
        "i", title="T", price=5.0, in_stock=False, attributes={"color": "red"}, image=b"\1\2"
    )
    assert item_change("i", {"item_id": "i", "title": None}) == ItemChange("i")
    assert fields_of(item_change, "i", {"item_id": "j"}) == ["item_id"]
    assert fields_of(item_change, "i", []) == ["body"]
    assert fields_of(item_change, "", {}) == ["item_id"]
    assert fields_of(item_change, "i", {"price": -1, "in_stock": "yes"}) == ["price", "in_stock"]
    assert fields_of(item_change, "i", {"attributes": {"": "x"}}) == ["attributes."]
    assert fields_of(item_change, "i", {"image": base64.b64encode(bytes((1 << 20) + 1)).decode()}) == ["image"]


def test_several_items():
    assert item_changes({"items": [{"item_id": "a"}, {"item_id": "b"}]}) == (ItemChange("a"), ItemChange("b"))
    assert fields_of(item_changes, {"items": [{"item_id": "a"}, {"item_id": "a"}]}) == ["items[1].item_id"]
    assert fields_of(item_changes, {"items": [{"title": "T"}]}) == ["items[0].item_id"]
    assert fields_of(item_changes, {}) == ["items"]
    assert removed_items({"item_ids": ["a", "b"]}) == ("a", "b")
    assert fields_of(removed_items, {"item_ids": ["a", "a"]}) == ["item_ids[1]"]
    assert fields_of(removed_items, {"item_ids": []}) == ["item_ids"]


def test_a_call_does_one_thing():
    assert catalog_call({"upsert": [{"item_id": "a"}]}) == CatalogCall(upsert=(ItemChange("a"),))
    assert catalog_call({"patch": [{"item_id": "a"}]}) == CatalogCall(patch=(ItemChange("a"),))
    assert catalog_call({"delete": ["a"]}) == CatalogCall(delete=("a",))
    assert fields_of(catalog_call, {}) == ["body"]
    assert fields_of(catalog_call, {"patch": [{"item_id": "a"}], "delete": ["a"]}) == ["body"]
    assert fields_of(catalog_call, []) == ["body"]
    assert fields_of(catalog_call, {"patch": [{"item_id": "a"}] * 2}) == ["patch[1].item_id"]
    assert fields_of(catalog_call, {"delete": []}) == ["delete"]


def test_an_id_alone():
    assert identifier("a/b") == "a/b"
    assert fields_of(identifier, "") == ["item_id"]
    assert fields_of(identifier, "x" * 513) == ["item_id"]


@pytest.mark.parametrize("version", ["", "..", "../x", "a/b", ".hidden", "x" * 129, "ü", None, 5])
def test_a_version_is_no_path(version):
    assert fields_of(bundle_version, version) == ["version"]


def test_bundles():
    assert bundle_version("20250922-1f3a9c") == "20250922-1f3a9c"
    assert bundle_share({"version": "v1", "share": 0.5}) == BundleShare("v1", 0.5)
    assert bundle_share({"share": 0}) == BundleShare("", 0.0)
    assert fields_of(bundle_share, {"share": 0.5}) == ["version"]
    assert fields_of(bundle_share, {"version": "v1"}) == ["share"]
    assert fields_of(bundle_share, {"version": "v1", "share": 2}) == ["share"]
