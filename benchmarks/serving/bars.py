"""What the service adds to its kernels and its frameworks, and how it stands open-model load, all in one run.

    python -m benchmarks.serving.bars --bundles var/full/bundles --out benchmarks/serving/results.jsonl

The service and all it is compared with run on core 0, one at a time; the load on core 1. Uncached requests each name
another shopper with 50 events. Every figure is the median of the rounds, every ratio the median of the rounds' ratios;
where others use the machine too, what counts is a second of the server's processor time and not of the clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop

from benchmarks.serving.in_process import Shoppers, kernels, open_bundle_of, recall, stages_of
from benchmarks.serving.load import Grpc, Http, Measured, Opener, closed, open_model
from benchmarks.serving.processes import Servers
from protos import recommender_pb2
from service.generation import Generation

K = 20
PATH = "/plotpointe.v1.RecommendationService/Recommend"
UNDER_WAY, CACHED_UNDER_WAY, OPEN_CONNECTIONS = 8, 16, 64
HOT = 200
"""Shoppers whose answers are cached."""
SHARE_OF_CAPACITY = 0.6
Rates = dict[str, tuple[float, float]]


def get(user_id: str) -> bytes:
    """GET /recommend. Ids of the bundles measured need no escaping."""
    return f"GET /recommend?user_id={user_id}&k={K} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()


def post(body: dict[str, Any]) -> bytes:
    """POST /v1/recommend."""
    content = orjson.dumps(body)
    return b"POST /v1/recommend HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n" % len(content) + content


def message(user_id: str) -> bytes:
    """Recommend over gRPC."""
    encoded: bytes = recommender_pb2.RecommendRequest(user_id=user_id, k=K).SerializeToString()
    return encoded


class Bench:
    """The servers, and the shoppers who have not been asked for."""

    def __init__(self, shoppers: Shoppers, servers: Servers, seconds: float) -> None:
        self._shoppers = shoppers
        self._servers = servers
        self._seconds = seconds
        self._fresh = iter(shoppers.ids)
        self._hot = [next(self._fresh) for _ in range(HOT)]
        self.grpc: Opener = partial(Grpc, path=PATH)

    def fresh(self, count: int) -> list[str]:
        """Shoppers who have not been asked for."""
        return list(itertools.islice(self._fresh, count))

    def uncached_get(self) -> Measured:
        """REST, as fast as it goes."""
        return self._uncached(Http, "rest", map(get, self._fresh))

    def uncached_post(self) -> Measured:
        """REST, with a history of 50 events that the request brings and that nobody has had before."""
        bodies = ({"history": past, "k": K} for past in self._shoppers.made_up_histories())
        return self._uncached(Http, "rest", map(post, bodies))

    def uncached_grpc(self) -> Measured:
        """gRPC, as fast as it goes."""
        return self._uncached(self.grpc, "grpc", map(message, self._fresh))

    def cached(self, opener: Opener, server: str, ask: Callable[[str], bytes]) -> Measured:
        """The hot shoppers, over and over."""
        self._load(opener, server, map(ask, self._hot), CACHED_UNDER_WAY, seconds=600)
        return self._load(opener, server, map(ask, itertools.cycle(self._hot)), CACHED_UNDER_WAY)

    def one_connection(self) -> dict[str, dict[str, float]]:
        """Latency where one request is asked after another."""
        loads = {
            "rest_uncached": (Http, "rest", map(get, self._fresh)),
            "grpc_uncached": (self.grpc, "grpc", map(message, self._fresh)),
            "rest_cached": (Http, "rest", map(get, itertools.cycle(self._hot))),
            "grpc_cached": (self.grpc, "grpc", map(message, itertools.cycle(self._hot))),
            "rest_bare": (Http, "fastapi", map(get, itertools.cycle(self._hot))),
            "grpc_bare": (self.grpc, "grpc-bare", map(message, itertools.cycle(self._hot))),
        }
        return {name: self._load(*load, 1).ms(50, 90, 99) for name, load in loads.items()}

    def open_model(self, rate: float, seconds: float) -> Measured:
        """REST, shoppers who arrive when they like."""
        requests = [get(user_id) for user_id in self.fresh(int(rate * seconds))]
        port = self._servers.port("rest")
        return uvloop.run(open_model(Http, port, requests, rate=rate, connections=OPEN_CONNECTIONS))

    def _uncached(self, opener: Opener, server: str, requests: Iterator[bytes]) -> Measured:
        measured = self._load(opener, server, requests, UNDER_WAY)
        other = [reply for reply in measured.replies if b'"cached":false,"degraded":[]' not in reply]
        if server == "rest" and other:
            raise SystemExit(f"{len(other)} answers that were to be computed whole were not: {other[0][-300:]!r}")
        return measured

    def _load(
        self, opener: Opener, server: str, requests: Iterator[bytes], connections: int, seconds: float | None = None
    ) -> Measured:
        before = self._servers.cpu_seconds(server)
        measured = uvloop.run(
            closed(
                opener, self._servers.port(server), requests, seconds=seconds or self._seconds, connections=connections
            )
        )
        measured.cpu_seconds = self._servers.cpu_seconds(server) - before
        return measured


def one_round(bench: Bench, generation: Generation, shoppers: Shoppers) -> Rates:
    """Requests a second, and a second of processor time, of everything that is compared."""
    rates: Rates = {"kernels": kernels(generation, shoppers.ids[-400:])}
    measured: dict[str, Callable[[], Measured]] = {
        "rest_uncached": bench.uncached_get,
        "grpc_uncached": bench.uncached_grpc,
        "rest_uncached_with_history": bench.uncached_post,
        "rest_cached": lambda: bench.cached(Http, "rest", get),
        "rest_bare": lambda: bench.cached(Http, "fastapi", get),
        "rest_ceiling": lambda: bench.cached(Http, "http-ceiling", get),
        "grpc_cached": lambda: bench.cached(bench.grpc, "grpc", message),
        "grpc_bare": lambda: bench.cached(bench.grpc, "grpc-bare", message),
        "grpc_ceiling": lambda: bench.cached(bench.grpc, "grpc-ceiling", message),
    }
    for name, measure in measured.items():
        load = measure()
        rates[name] = load.a_second, load.a_cpu_second
    print({name: (round(wall), round(cpu)) for name, (wall, cpu) in rates.items()}, os.getloadavg(), flush=True)
    return rates


RATIOS = {
    "rest_uncached": ("rest_uncached", "kernels"),
    "grpc_to_rest_uncached": ("grpc_uncached", "rest_uncached"),
    "rest_cached": ("rest_cached", "rest_bare"),
    "grpc_cached": ("grpc_cached", "grpc_bare"),
    "ceiling_over_rest_bare": ("rest_ceiling", "rest_bare"),
    "ceiling_over_grpc_bare": ("grpc_ceiling", "grpc_bare"),
}


def medians(rounds: Sequence[Rates], by: int) -> dict[str, float]:
    """Of each rate; `by` 0 for the clock, 1 for the server's processor time."""
    return {name: round(float(np.median([each[name][by] for each in rounds])), 1) for name in rounds[0]}


def ratios(rounds: Sequence[Rates], by: int) -> dict[str, float]:
    """Medians of the rounds' ratios, likewise."""
    return {
        name: round(float(np.median([each[ours][by] / each[floor][by] for each in rounds])), 3)
        for name, (ours, floor) in RATIOS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True, help="root folder of the bundles")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--open-seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="append the figures to this file")
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    generation = open_bundle_of(given.bundles)
    shoppers = Shoppers(generation.bundle)
    with ExitStack() as stack:
        servers = Servers(Path(stack.enter_context(tempfile.TemporaryDirectory())), core=0)
        stack.callback(servers.close)
        servers.service(given.bundles, "--max-queue-ms", "10000")  # what is late is to be seen as late
        os.sched_setaffinity(0, {1})
        bench = Bench(shoppers, servers, given.seconds)
        sample = uvloop.run(closed(Http, servers.port("rest"), iter([get(shoppers.ids[-1])]), seconds=5, connections=1))
        over_grpc = uvloop.run(
            closed(bench.grpc, servers.port("grpc"), iter([message(shoppers.ids[-1])]), seconds=5, connections=1)
        )
        servers.bare(sample.replies[0], over_grpc.replies[0][5:])
        rounds = [one_round(bench, generation, shoppers) for _ in range(given.rounds)]
        one_connection = bench.one_connection()
        stage_ms = stages_of(bench.uncached_get().replies)
        rate = SHARE_OF_CAPACITY * float(np.median([each["rest_uncached"][0] for each in rounds]))
        arrivals = [bench.open_model(rate, given.open_seconds) for _ in range(given.rounds)]
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "benchmark": "serving-bars",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "bundle": {"items": generation.manifest.num_items, "index": generation.manifest.index.model_dump()},
        "a_second": medians(rounds, 0),
        "a_cpu_second": medians(rounds, 1),
        "ratios": ratios(rounds, 0),
        "ratios_by_cpu": ratios(rounds, 1),
        "rounds": [{name: (round(wall, 1), round(cpu, 1)) for name, (wall, cpu) in each.items()} for each in rounds],
        "reply_bytes": {"rest": len(sample.replies[0]), "grpc": len(over_grpc.replies[0])},
        "open_model": [
            {"a_second": round(rate, 1), **m.ms(50, 99, 99.9), "requests": len(m.latencies)} for m in arrivals
        ],
        "recall_at_candidates": recall(generation, shoppers.ids[:1000]),
        "one_connection": one_connection,
        "stage_ms": stage_ms,
    }
    print(json.dumps(figures, indent=1))
    if given.out:
        with given.out.open("a") as file:
            file.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
