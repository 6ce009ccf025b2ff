"""Readiness: whether this process should be sent requests. Liveness is another question, and asks nothing of anyone."""

from __future__ import annotations

from collections.abc import Callable


class Readiness:
    """Ready from `open` to `drain`. What is optional (Redis, the event log) is reported and never decides."""

    def __init__(self) -> None:
        self._state = "loading"
        self._version = ""
        self._probes: dict[str, Callable[[], str]] = {}

    def report(self, name: str, probe: Callable[[], str]) -> None:
        """Show `probe()`, a word or two that must not wait for anything, under `name` in `states`."""
        self._probes[name] = probe

    def open(self, version: str) -> None:
        """A bundle is loaded and warm: requests may come. Called again when another one serves."""
        self._version = version
        if self._state != "draining":
            self._state = "serving"

    def drain(self) -> None:
        """Ask for no more requests; those in flight are still answered. There is no way back."""
        self._state = "draining"

    def is_ready(self) -> bool:
        """Whether requests may come."""
        return self._state == "serving"

    def states(self) -> dict[str, str]:
        """Part -> its state, in words: `bundle`, and each optional part (`redis`, `event_log`)."""
        bundle = f"serving {self._version}" if self._state == "serving" else self._state
        return {"bundle": bundle} | {name: probe() for name, probe in self._probes.items()}
