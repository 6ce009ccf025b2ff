"""Latency of an uncached /recommend on one connection, beside a bare route and the bare kernels, in one run.

    .venv/bin/python benchmarks/serving/one_connection.py --bundles var/demo/bundles --requests 2000

Each request names another shopper, so that no cache can answer. The floor is the work that cannot be left out: the user
tower, the FAISS search and the re-ranker called in a loop on the same shoppers. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np

from protos import recommender_pb2, recommender_pb2_grpc
from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.rerank import Reranker
from service.retrieve import Retriever
from service.shoppers import Shoppers

BARE = """
import sys, uvicorn
from fastapi import FastAPI, Response
app = FastAPI()
body = b"x" * int(sys.argv[2])
@app.get("/bare")
async def bare(): return Response(body, media_type="application/json")
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


@contextmanager
def child(command: list[str], port: int, path: str) -> Iterator[http.client.HTTPConnection]:
    """Run a server until the block ends; yields a keep-alive connection once it answers."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                connection.request("GET", path)
                reply = connection.getresponse()
                reply.read()
                if reply.status < 500:
                    break
            except OSError:
                connection.close()
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not come up: {(process.stderr.read() if process.stderr else b'')!r}")
            time.sleep(0.1)
        yield connection
    finally:
        connection.close()
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def timed(calls: list[Callable[[], object]]) -> dict[str, float]:
    """p50, p90 and p99 in milliseconds, one call after another."""
    taken = np.empty(len(calls))
    for i, call in enumerate(calls):
        start = time.perf_counter()
        call()
        taken[i] = time.perf_counter() - start
    return {f"p{q}_ms": round(float(np.percentile(taken, q)) * 1e3, 3) for q in (50, 90, 99)}


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    reply = connection.getresponse()
    body = reply.read()
    if reply.status != 200:
        raise SystemExit(f"{path}: {reply.status} {body[:300]!r}")
    return body


def floor(bundle: Bundle, rows: list[int]) -> dict[str, float]:
    """The kernels alone, in a loop, on the same shoppers."""
    shoppers = Shoppers(bundle)
    retriever = Retriever(bundle)
    reranker = Reranker(bundle, most_candidates=bundle.manifest.num_candidates)
    shoppers.warm_up()
    reranker.warm_up(shoppers.history_lengths)

    def one(row: int) -> None:
        shopper = shoppers.shopper(row)
        vector = shoppers.vector(shopper.history)
        candidates = retriever.search(vector, bundle.manifest.num_candidates, at_least=20, exclude=shopper.seen)
        reranker.scores(candidates, shopper.history)

    return timed([lambda row=row: one(row) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True, help="root folder of the bundles")
    parser.add_argument("--requests", type=int, default=2000, help="shoppers asked for, each once")
    parser.add_argument("--rest-port", type=int, default=18_000)
    parser.add_argument("--grpc-port", type=int, default=15_051)
    given = parser.parse_args()
    bundle = open_bundle(given.bundles / active_version(given.bundles))
    count = min(2 * given.requests, len(bundle.user_ids))
    rows = np.random.default_rng(0).permutation(len(bundle.user_ids))[:count].tolist()
    half = count // 2
    path = "/recommend?k=20&user_id="
    paths = [path + urllib.parse.quote(bundle.user_ids[row], safe="") for row in rows[:half]]

    with tempfile.TemporaryDirectory() as events:
        serve = [sys.executable, "-m", "service", "--bundles", str(given.bundles), "--events-dir", events]
        serve += ["--rest-port", str(given.rest_port), "--grpc-port", str(given.grpc_port)]
        with child(serve, given.rest_port, "/readyz") as rest:
            body = get(rest, path + "nobody-knows-me")
            uncached = timed([lambda p=p: get(rest, p) for p in paths])
            cached = timed([lambda: get(rest, paths[0])] * half)
            with grpc.insecure_channel(f"127.0.0.1:{given.grpc_port}") as channel:
                stub = recommender_pb2_grpc.RecommendationServiceStub(channel)
                asked = [recommender_pb2.RecommendRequest(user_id=bundle.user_ids[row], k=20) for row in rows[half:]]
                stub.Recommend(recommender_pb2.RecommendRequest(user_id="nobody", k=20), timeout=10)
                over_grpc = timed([lambda m=m: stub.Recommend(m, timeout=10) for m in asked])
        bare = [sys.executable, "-c", BARE, str(given.rest_port), str(len(body))]
        with child(bare, given.rest_port, "/bare") as connection:
            route = timed([lambda: get(connection, "/bare")] * half)
    kernels = floor(bundle, rows[:half])
    result = {
        "bundle": {"version": bundle.manifest.version, "items": bundle.manifest.num_items},
        "index": {"factory": bundle.manifest.index.factory, "recall_at": bundle.manifest.index.recall_at},
        "requests": half,
        "rest_uncached": uncached,
        "rest_cached": cached,
        "grpc_uncached": over_grpc,
        "bare_fastapi_route_same_bytes": route,
        "kernels_in_a_loop": kernels,
        "ratio_uncached_to_kernels_plus_route_p50": round(
            uncached["p50_ms"] / (kernels["p50_ms"] + route["p50_ms"]), 2
        ),
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
