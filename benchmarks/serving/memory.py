"""What the workers of one service take, alone and together, once each of them has answered.

    python -m benchmarks.serving.memory --bundles var/full/bundles --out benchmarks/serving/results.jsonl

MiB of each process: `pss` its share of everything it has mapped, `uss` what nobody else has, `dirty` the part of that
which is no page of a file. With one worker the bundle's pages are its own; with several they are shared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.serving.bars import PATH, get, message
from benchmarks.serving.in_process import Shoppers
from benchmarks.serving.load import Grpc, Http, closed
from benchmarks.serving.processes import Servers, children, memory_mib
from service.bundle.reader import open_bundle
from service.bundle.store import active_version

WORKERS = (1, 2, 3)


def measure(bundles: Path, workers: int, user_ids: list[str], seconds: float) -> list[dict[str, float]]:
    """Of the parent, where there is one, and of each worker."""
    with ExitStack() as stack:
        servers = Servers(Path(stack.enter_context(tempfile.TemporaryDirectory())), core=None)
        stack.callback(servers.close)
        pid = servers.service(bundles, "--workers", str(workers), "--max-queue-ms", "10000")
        asked = itertools.cycle(user_ids)
        for opener, port, ask in ((Http, "rest", get), (partial(Grpc, path=PATH), "grpc", message)):
            uvloop.run(closed(opener, servers.port(port), map(ask, asked), seconds=seconds, connections=8 * workers))
        pids = [pid, *children(pid)] if workers > 1 else [pid]
        return [{name: round(mib, 1) for name, mib in memory_mib(each).items()} for each in pids]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True, help="root folder of the bundles")
    parser.add_argument("--seconds", type=float, default=5.0, help="of requests, over each transport")
    parser.add_argument("--out", type=Path, help="append the figures to this file")
    given = parser.parse_args()
    user_ids = Shoppers(open_bundle(given.bundles / active_version(given.bundles))).ids[-5000:]
    figures: dict[str, object] = {"benchmark": "serving-memory", "date": datetime.now(UTC).date().isoformat()}
    for workers in WORKERS:
        figures[f"{workers}"] = measure(given.bundles, workers, user_ids, given.seconds)
        print(workers, figures[f"{workers}"], flush=True)
    if given.out:
        with given.out.open("a") as file:
            file.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
