"""What the iALS baseline costs beside `implicit` called directly: same settings, same threads, taking turns.

python -m benchmarks.models.ials_overhead --out benchmarks/models/results.jsonl
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from benchmarks.models.published_splits import NAMES, load_split
from benchmarks.offline.results import record
from training.baselines import ials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=NAMES, default="amazon-baby")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    train = load_split(args.dataset).train
    settings = {"factors": args.factors, "iterations": args.iterations, "alpha": 4.0, "regularization": 10.0}

    def ours() -> object:
        return ials(train, seed=0, threads=args.threads, **settings)

    def directly() -> object:
        model = AlternatingLeastSquares(random_state=0, num_threads=args.threads, **settings)
        model.fit(train, show_progress=False)
        return model

    with threadpool_limits(1, "blas"):  # what `implicit` asks its callers for
        check_equal(ours(), directly(), train)
        turns = [(cpu_seconds(ours), cpu_seconds(directly)) for _ in range(args.rounds)]
    ratios = [own / theirs for own, theirs in turns]
    figures = {
        "dataset": args.dataset,
        "settings": settings,
        "threads": args.threads,
        "cpu_seconds": [[round(second, 3) for second in turn] for turn in turns],
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_of_best": round(min(own for own, _ in turns) / min(theirs for _, theirs in turns), 4),
    }
    record("iALS beside implicit", figures, args.out)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of all threads of this process: a busy machine changes it less than the clock on the wall."""
    start = time.process_time()
    work()
    return time.process_time() - start


def check_equal(scores: object, model: AlternatingLeastSquares, train: sp.csr_matrix) -> None:
    """Both did the same work: the same factors come of it."""
    assert callable(scores)
    users = np.arange(0, train.shape[0], max(1, train.shape[0] // 50))
    np.testing.assert_allclose(scores(users), model.user_factors[users] @ model.item_factors.T, atol=1e-5)


if __name__ == "__main__":
    main()
