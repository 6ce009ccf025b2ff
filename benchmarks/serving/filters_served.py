"""Filtered requests through the service: latency and recall by how many items pass.

    python -m benchmarks.serving.filters_served --bundles var/full/bundles --out benchmarks/serving/results.jsonl

One request after another over REST, each of another shopper with 50 events; the filters bound the price, so that
a given share passes. Recall is the share of the exact 200 nearest that pass among what retrieval found, of the same
shoppers.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import uvloop

from benchmarks.serving.in_process import Shoppers, open_bundle_of, stages_of
from benchmarks.serving.load import Http, closed
from benchmarks.serving.processes import Servers
from service.generation import Generation
from service.selection import Selections

SHARES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
JUDGED = 200


def filter_of(generation: Generation, share: float) -> str:
    """A filter that this share of the items passes; empty for all of them."""
    return "" if share == 1 else f"price < {np.quantile(generation.bundle.prices, share):.4f}"


def recall(generation: Generation, text: str, user_ids: list[str]) -> float:
    """Mean share of the exact nearest that pass, among those found."""
    passing = Selections().passing(generation.catalog, text)
    shares = []
    for user_id in user_ids:
        row = generation.shoppers.row(user_id)
        assert row is not None
        rows, times = generation.shoppers.past(row)
        history = generation.shoppers.history(rows, times, now=generation.shoppers.as_of)
        vector = generation.shoppers.vector(history, generation.catalog.tables)
        asked: dict[str, Any] = {"exclude": np.unique(rows), "passing": passing}
        found = generation.retriever.search(vector, generation.num_candidates, at_least=20, **asked)
        exact = generation.retriever.exact(vector, generation.num_candidates, **asked)
        shares.append(float((found.scores >= exact.scores[-1] - 1e-4).sum()) / len(exact.rows))
    return round(float(np.mean(shares)), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True, help="root folder of the bundles")
    parser.add_argument("--requests", type=int, default=500, help="of each filter")
    parser.add_argument("--out", type=Path, help="append the figures to this file")
    given = parser.parse_args()
    generation = open_bundle_of(given.bundles)
    shoppers = Shoppers(generation.bundle)
    fresh = iter(shoppers.ids)
    figures: dict[str, Any] = {"benchmark": "serving-filters", "date": datetime.now(UTC).date().isoformat()}
    with ExitStack() as stack:
        servers = Servers(Path(stack.enter_context(tempfile.TemporaryDirectory())), core=0)
        stack.callback(servers.close)
        servers.service(given.bundles)
        os.sched_setaffinity(0, {1})
        for share in SHARES:
            text = filter_of(generation, share)
            asked = [next(fresh) for _ in range(given.requests)]
            path = "/recommend?k=20&filter=" + quote(text, safe="") + "&user_id="
            requests = (f"GET {path}{user_id} HTTP/1.1\r\nhost: bench\r\n\r\n".encode() for user_id in asked)
            before = servers.cpu_seconds("rest")
            measured = uvloop.run(closed(Http, servers.port("rest"), requests, seconds=600, connections=1))
            figures[str(share)] = {
                **measured.ms(50, 99),
                "cpu_ms": round((servers.cpu_seconds("rest") - before) / len(asked) * 1e3, 3),
                "retrieve_ms": stages_of(measured.replies)["retrieve"],
                "recall": recall(generation, text, asked[:JUDGED]),
            }
            print(share, figures[str(share)], os.getloadavg()[0], flush=True)
    if given.out:
        with given.out.open("a") as file:
            file.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
