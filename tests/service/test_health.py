from __future__ import annotations

from service.health import Readiness


def test_ready_from_the_first_bundle_to_the_drain() -> None:
    ready = Readiness()
    assert (ready.is_ready(), ready.states()) == (False, {"bundle": "loading"})
    ready.open("v1")
    assert (ready.is_ready(), ready.states()) == (True, {"bundle": "serving v1"})
    ready.open("v2")
    assert ready.states() == {"bundle": "serving v2"}
    ready.drain()
    assert (ready.is_ready(), ready.states()) == (False, {"bundle": "draining"})
    ready.open("v3")  # a bundle that was loaded meanwhile asks for no more requests
    assert (ready.is_ready(), ready.states()) == (False, {"bundle": "draining"})


def test_what_is_optional_is_shown_and_never_decides() -> None:
    ready = Readiness()
    ready.report("redis", lambda: "unavailable")
    ready.open("v1")
    assert ready.is_ready()
    assert ready.states() == {"bundle": "serving v1", "redis": "unavailable"}
