"""What may be asked: no private network in any spelling, and no second look at a name."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_jobs.image_download.addresses import Policy, RefusedAddressError
from offline_jobs.image_download.settings import FetchImagesSettings

STRICT = Policy.of(FetchImagesSettings())
FORBIDDEN = (
    "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0",
    "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:a00:1::", "2001:db8::1",
    "100::1", "not an address",
)  # fmt: skip
NEVER = ("169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::", "255.255.255.255", "::ffff:169.254.169.254")


def allowed(policy, host, address):
    try:
        policy.check_address(host, address)
    except RefusedAddressError:
        return False
    return True


@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_that_nobody_asks(address):
    assert not allowed(STRICT, "images.example", address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_that_may_be_asked(address):
    assert allowed(STRICT, "images.example", address)


@given(st.ip_addresses(v=4))
def test_no_ipv6_spelling_opens_what_ipv4_closes(address):
    plain = allowed(STRICT, "x", str(address))
    number = int(address)
    spellings = [(0xFFFF << 32) | number, (0x64FF9B << 96) | number, (0x2002 << 112) | (number << 80)]
    for spelling in spellings:
        assert plain or not allowed(STRICT, "x", str(ipaddress.IPv6Address(spelling)))


def test_a_shops_own_network_is_opened_by_name_and_the_rest_stays_closed():
    own = Policy.of(FetchImagesSettings(allow_hosts="images.shop.internal, 10.0.0.5"))
    assert allowed(own, "Images.Shop.Internal.", "10.9.9.9")
    assert allowed(own, "10.0.0.5", "10.0.0.5")
    assert not allowed(own, "other.internal", "10.9.9.9")
    everything = Policy.of(FetchImagesSettings(allow_private=True))
    assert all(allowed(everything, "any", address) for address in ("127.0.0.1", "10.0.0.1", "::1", "fd00::1"))
    assert not any(allowed(everything, "any", address) for address in NEVER)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://images.example/", "neither http nor https"),
        ("data:image/png;base64,AAAA", "neither http nor https"),
        ("//images.example/a.jpg", "neither http nor https"),
        ("http:///a.jpg", "not a valid URL"),
        ("http://images.example:99999/", "not a valid URL"),
        ("http://images.example:8080/", "port not allowed"),
        ("http://me@images.example/", "user name or password in the URL"),
        ("http://me:pass@images.example/", "user name or password in the URL"),
        ("http://images.example/\r\nHost: other", "not a valid URL"),
        ("http://images.example\\@127.0.0.1/", "not a valid URL"),
        ("http://images.example/" + "a" * 5000, "not a valid URL"),
    ],
)
def test_urls_that_are_refused_by_their_text(url, reason):
    with pytest.raises(RefusedAddressError, match=f"^{reason}$"):
        STRICT.check_url(url)


@given(st.text(max_size=60))
def test_no_text_breaks_the_check(text):
    for candidate in (text, f"http://{text}", f"https://a.example/{text}"):
        try:
            url = STRICT.check_url(candidate)
        except RefusedAddressError:
            continue
        assert url.scheme in ("http", "https")
        assert url.port in (80, 443)
        assert url.user is None


def test_a_name_that_is_public_first_and_private_then(server, tmp_path, patient, make_work, fetch):
    """DNS rebinding: the second answer is judged like the first, and nothing connects to it."""
    answers = []

    async def rebinding(host):
        answers.append("2606:4700::1111" if not answers else "127.0.0.1")
        return [answers[-1]]

    settings = patient(server, connect_timeout_s=0.2, attempts=3)
    row = fetch(make_work(tmp_path, [f"http://evil.example:{server.port}/good/1.jpg"]), settings, lookup=rebinding)[0]
    assert (row["state"], server.asked.total()) in (("refused", 0), ("failed", 0))
    assert answers[0] == "2606:4700::1111"


def test_one_private_address_among_public_ones_is_enough(server, tmp_path, patient, make_work, fetch):
    async def mixed(host):
        return ["127.0.0.1", "93.184.216.34"]

    url = f"http://evil.example:{server.port}/good/1.jpg"
    row = fetch(make_work(tmp_path, [url]), patient(server), lookup=mixed)[0]
    assert (row["state"], row["reason"], server.asked.total()) == ("refused", "private address", 0)


def test_the_address_that_was_checked_is_the_one_connected_to(server, tmp_path, patient, make_work, fetch):
    asked = []

    async def once(host):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    settings = patient(server, allow_hosts="shop.example")
    urls = [f"http://shop.example:{server.port}/good/{n}.jpg" for n in range(5)]
    assert {row["state"] for row in fetch(make_work(tmp_path, urls), settings, lookup=once)} == {"ok"}
    assert asked == ["shop.example"]
    assert "Host: shop.example" in server.headers["/good/1.jpg"]
