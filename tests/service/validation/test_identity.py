"""Ids, tenants and keys are taken where they are safe."""

import re

import pytest

from service.validation.identity import accepted_request_id, accepted_tenant, admin_key
from service.validation.violations import InvalidFieldsError


def test_a_safe_request_id_is_kept():
    assert accepted_request_id("cart-42/a:b") == "cart-42/a:b"


@pytest.mark.parametrize("offered", [None, "", "a b", "x" * 129, "ünï", "a\n"])
def test_another_is_replaced(offered):
    assert re.fullmatch("[0-9a-f]{32}", accepted_request_id(offered))


def test_tenants():
    assert accepted_tenant("shop-2") == "shop-2"
    assert accepted_tenant("") == accepted_tenant(None) == ""


@pytest.mark.parametrize("offered", ["Shop", "-a", "a" * 64, "a b", "ü", "../x", "a\n"])
def test_what_no_tenant_is_called(offered):
    with pytest.raises(InvalidFieldsError, match="at most 63"):
        accepted_tenant(offered)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc", "abc"),
        ("Basic abc", ""),
        ("Bearer", ""),
        ("Bearer a b", ""),
        ("Bearer " + "x" * 513, ""),
        ("", ""),
        (None, ""),
    ],
)
def test_keys(header, key):
    assert admin_key(header) == key
