"""Every metric of the service. No user and no item is ever a label value; `docs/OPERATING.md` lists them.

A registry of its own; where several workers count together, a folder of mapped files in which their numbers add up.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
    values,
)

from service.metric_cells import Cell, spreads, tallies

CONTENT_TYPE = CONTENT_TYPE_LATEST
FLUSH_SECONDS = 0.25
"""How far behind the numbers of another worker may be."""

REQUEST_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. Histograms and not summaries: buckets of several replicas can be added, quantiles cannot."""
STAGE_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
"""Seconds; stages are parts of a request that takes a few milliseconds."""
RATIO_BUCKETS = (0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
SCORE_BUCKETS = (-20.0, -10.0, -5.0, -2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""Scores have no unit; what counts is that their distribution moves."""


def share_between_processes(folder: Path, worker: int) -> None:
    """Count in `folder`, together with the other workers; before the first `Metrics` of this process is made.

    A worker that takes the place of one that died goes on with its files, so that no sum ever falls.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: worker)  # type: ignore[no-untyped-call]


def worker_died(folder: Path, worker: int) -> None:
    """Take what a dead worker was doing out of the gauges; its counts stay."""
    multiprocess.mark_process_dead(worker, path=str(folder))  # type: ignore[no-untyped-call]


class InFlight:
    """Counts the requests being answered: as a context around each."""

    __slots__ = ("_gauge", "count")

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1

    def flush(self) -> None:
        """See `Cell`."""
        self._gauge.set(self.count)


class Metrics:
    """What the service counts and times. Used on the event loop's thread alone."""

    def __init__(self, *, folder: Path | None = None) -> None:
        """`folder`: where several workers count together (see `share_between_processes`)."""
        self.registry = CollectorRegistry()
        self._folder = folder
        self._process: Cell | None = None
        if folder is None:
            ProcessCollector(registry=self.registry)
            GCCollector(registry=self.registry)
        else:
            self._process = _WorkerProcess(self.registry)
        self._requests = spreads(
            self._histogram(
                "request_duration_seconds",
                "Time to answer a request, whatever its status.",
                ["route", "status", "strategy"],
                REQUEST_BUCKETS,
            )
        )
        self._stages = spreads(
            self._histogram("stage_duration_seconds", "Time of one stage of a request.", ["stage"], STAGE_BUCKETS)
        )
        self._cache = tallies(
            self._counter(
                "cache_requests_total", "Cache look-ups by tier (memory, redis, flight) and result.", ["tier", "result"]
            )
        )
        self._degraded = tallies(
            self._counter("degraded_total", "Answers that were less than they should be, by reason.", ["reason"])
        )
        self._shed = tallies(self._counter("shed_total", "Requests refused for want of time, by reason.", ["reason"]))
        self._impressions = tallies(
            self._counter("impressions_total", "Lines of the event log, by result (written, failed).", ["result"])
        )
        self._events = tallies(self._counter("events_total", "Feedback events taken in, by kind.", ["kind"]))
        self._recall = spreads(
            self._histogram(
                "retrieval_recall_ratio",
                "Share of the exact best candidates that retrieval found, in a sample of the requests.",
                [],
                RATIO_BUCKETS,
            )
        )
        self._plans = tallies(
            self._counter("retrieval_plan_total", "Filtered retrievals by the way they were done.", ["plan"])
        )
        self._cold = spreads(
            self._histogram(
                "cold_items_served_ratio",
                "Share of an answer's items that had no interaction when the bundle was made.",
                [],
                RATIO_BUCKETS,
            )
        )
        self._scores = spreads(
            self._histogram("top_score", "Score of an answer's first item.", ["strategy"], SCORE_BUCKETS)
        )
        self._shadowed = tallies(
            self._counter("shadow_total", "Requests for the shadow, by result (compared, dropped, failed).", ["result"])
        )
        self._overlap = spreads(
            self._histogram(
                "shadow_overlap_ratio", "Share of an answer's items that the shadow shows too.", [], RATIO_BUCKETS
            )
        )
        self._shadow_seconds = spreads(
            self._histogram("shadow_duration_seconds", "Time of the shadow's computation.", [], REQUEST_BUCKETS)
        )
        self._loads = tallies(
            self._counter("bundle_loads_total", "Bundles loaded, by result (loaded, refused).", ["tenant", "result"])
        )
        self._restarts = tallies(self._counter("worker_restarts_total", "Workers started in place of one that died."))
        self._in_flight = InFlight(self._gauge("inflight_requests", "Requests being answered now.", [], "livesum"))
        self._model = self._gauge(
            "model_info", "1 for each bundle that is loaded to serve.", ["tenant", "version", "checksum"], "livemax"
        )
        self._loaded = self._gauge(
            "bundle_loaded_timestamp_seconds", "When the current bundle began to serve, in unix seconds.", ["tenant"],
            "livemax",
        )  # fmt: skip
        self._live_items = self._gauge("live_items", "Items of the live catalogue.", ["tenant"], "livemax")
        self._lag = self._gauge(
            "follower_lag_seconds",
            "How long ago this process last knew all that others wrote: states and catalogue.",
            ["tenant", "follower"],
            "livemax",
        )
        self._cells: tuple[Cell, ...] = (
            self._requests, self._stages, self._cache, self._degraded, self._shed, self._impressions, self._events,
            self._recall, self._plans, self._cold, self._scores, self._shadowed, self._overlap, self._shadow_seconds,
            self._loads, self._restarts, self._in_flight,
        )  # fmt: skip

    def observe_request(self, *, route: str, status: str, strategy: str, seconds: float) -> None:
        """Time one request; `route` is the pattern and never the path, `strategy` is empty where there was none."""
        self._requests[route, status, strategy].observe(seconds)

    def in_flight(self) -> InFlight:
        """Count a request as being answered while the context is open."""
        return self._in_flight

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Time one stage of one request."""
        self._stages[stage,].observe(seconds)

    def count_cache(self, tier: str, result: str) -> None:
        """Count one look-up."""
        self._cache[tier, result].add()

    def count_degraded(self, reason: str) -> None:
        """Count one answer that was less than it should be."""
        self._degraded[reason,].add()

    def count_shed(self, reason: str) -> None:
        """Count one request that was refused because there was no time for it."""
        self._shed[reason,].add()

    def count_impression(self, result: str) -> None:
        """Count one line of the event log: `written` or `failed`."""
        self._impressions[result,].add()

    def count_event(self, kind: str) -> None:
        """Count one feedback event."""
        self._events[kind,].add()

    def count_plan(self, plan: str) -> None:
        """Count one filtered retrieval."""
        self._plans[plan,].add()

    def observe_recall(self, ratio: float) -> None:
        """Note how much of an exact search's result retrieval found for one request."""
        self._recall[()].observe(ratio)

    def observe_answer(self, strategy: str, top_score: float, cold_share: float) -> None:
        """Note what one answer that is not empty was made of."""
        self._scores[strategy,].observe(top_score)
        self._cold[()].observe(cold_share)

    def observe_shadow(self, overlap: float, seconds: float) -> None:
        """Note one comparison of an answer with the shadow's."""
        self._overlap[()].observe(overlap)
        self._shadow_seconds[()].observe(seconds)

    def count_shadow(self, result: str) -> None:
        """Count one request that the shadow should have had: `compared`, `dropped` or `failed`."""
        self._shadowed[result,].add()

    def count_load(self, tenant: str, result: str) -> None:
        """Count one bundle: `loaded` or `refused`."""
        self._loads[tenant, result].add()

    def count_restart(self) -> None:
        """Count this worker as one in place of another."""
        self._restarts[()].add()

    def bundle_serves(self, tenant: str, version: str, checksum: str) -> None:
        """Note that a bundle serves, all or a part, from now on."""
        self._model.labels(tenant, version, checksum).set(1)

    def bundle_retired(self, tenant: str, version: str, checksum: str) -> None:
        """Note that a bundle serves no more. Its series stays, at 0: labels of several processes cannot be removed."""
        self._model.labels(tenant, version, checksum).set(0)

    def bundle_current(self, tenant: str) -> None:
        """Note that the current bundle of a tenant has changed."""
        self._loaded.labels(tenant).set(time.time())

    def set_live_items(self, tenant: str, count: int) -> None:
        """Note the size of the live catalogue."""
        self._live_items.labels(tenant).set(count)

    def set_follower_lag(self, tenant: str, follower: str, seconds: float) -> None:
        """Note how far behind a follower is."""
        self._lag.labels(tenant, follower).set(seconds)

    def flush(self) -> None:
        """Hand what was counted to Prometheus' own values, and so to the other workers' scrapes."""
        for cell in self._cells:
            cell.flush()
        if self._process is not None:
            self._process.flush()

    def render(self) -> bytes:
        """The metrics in Prometheus' text format (`CONTENT_TYPE`); of all workers together."""
        self.flush()
        if self._folder is None:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, path=str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _histogram(self, name: str, words: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"plotpointe_{name}", words, labels, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, words: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"plotpointe_{name}", words, labels or [], registry=self.registry)

    def _gauge(self, name: str, words: str, labels: list[str], several: str) -> Gauge:
        """`several`: what becomes of the numbers of several workers."""
        return Gauge(f"plotpointe_{name}", words, labels, registry=self.registry, multiprocess_mode=several)  # type: ignore[arg-type]


class _WorkerProcess:
    """CPU and memory of the workers, added up: the library's own collector knows one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._cpu = Counter("process_cpu_seconds", "CPU time of all workers.", registry=registry)
        self._memory = Gauge(
            "process_resident_memory_bytes",
            "Resident memory of all workers; what they share counts for each.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._counted = 0.0

    def flush(self) -> None:
        """See `Cell`."""
        used = time.process_time()
        self._cpu.inc(used - self._counted)
        self._counted = used
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self._memory.set(pages * os.sysconf("SC_PAGE_SIZE"))
