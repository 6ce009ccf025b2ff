"""Every metric of the service, in a registry of its own. No user and no item is ever a label value."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

REQUEST_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. Histograms and not summaries: buckets of several replicas can be added, quantiles cannot."""
STAGE_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
"""Seconds; stages are parts of a request that takes a few milliseconds."""


class Metrics:
    """What the service counts and times."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = Histogram(
            "plotpointe_request_duration_seconds",
            "Time to answer a request, whatever its status.",
            ["route", "status", "strategy"],
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "plotpointe_stage_duration_seconds",
            "Time of one stage of the hot path.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self._cache = Counter(
            "plotpointe_cache_requests_total",
            "Cache look-ups by tier (memory, redis, flight) and result.",
            ["tier", "result"],
            registry=self.registry,
        )
        self._degraded = Counter(
            "plotpointe_degraded_total",
            "Answers that were less than they should be, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._in_flight = Gauge("plotpointe_inflight_requests", "Requests being answered now.", registry=self.registry)
        self._model = Gauge(
            "plotpointe_model_info", "1 for the bundle that is served.", ["version"], registry=self.registry
        )
        self._loaded = Gauge(
            "plotpointe_bundle_loaded_timestamp_seconds",
            "When the served bundle was loaded, in unix seconds.",
            registry=self.registry,
        )
        self._impressions = Counter(
            "plotpointe_impressions_total",
            "Lines of the event log, by result (written, failed).",
            ["result"],
            registry=self.registry,
        )

    def observe_request(self, *, route: str, status: str, strategy: str, seconds: float) -> None:
        """Time one request; `route` is the pattern and never the path, `strategy` is empty where there was none."""
        self._requests.labels(route, status, strategy).observe(seconds)

    def in_flight(self) -> AbstractContextManager[None]:
        """Count a request as being answered while the context is open."""
        return self._in_flight.track_inprogress()

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Time one stage of one request."""
        self._stages.labels(stage).observe(seconds)

    def count_cache(self, tier: str, result: str) -> None:
        """Count one look-up."""
        self._cache.labels(tier, result).inc()

    def count_degraded(self, reason: str) -> None:
        """Count one answer that was less than it should be."""
        self._degraded.labels(reason).inc()

    def count_impression(self, result: str) -> None:
        """Count one line of the event log: `written` or `failed`."""
        self._impressions.labels(result).inc()

    def bundle_loaded(self, version: str) -> None:
        """Note that `version` is served from now on."""
        self._model.labels(version).set(1)
        self._loaded.set(time.time())

    def render(self) -> bytes:
        """The metrics in Prometheus' text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)
