"""Seconds for one training epoch of LightGCN: RecBole's and ours, taking turns in one run.

    python -m benchmarks.models.lightgcn_vs_recbole --environment /tmp/recbole-env [--out results.jsonl]

Both on Baby's training interactions: 64 wide, 3 layers, BPR with one drawn item a pair, batches of 2,048, Adam, the
same threads. RecBole 1.2.1 needs NumPy 1, so it lives in an environment of its own, made with CONSTRAINTS where it is
not there yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import scipy.sparse as sp
import torch

from benchmarks.models.published_splits import load_split
from benchmarks.offline.results import record
from training.baselines.embedding_fit import EmbeddingFit
from training.baselines.lightgcn import LightGcn, LightGcnSettings

CONSTRAINTS = ("recbole==1.2.1", "numpy<2", "scipy<1.12", "pandas<2.3", "ray<3", f"torch=={torch.__version__}")
"""RecBole's environment; torch is the same build on both sides."""

SAME = LightGcnSettings(
    loss="bpr", dim=64, layers=3, batch_size=2048, learning_rate=0.001, regularization=1e-5, max_epochs=1
)
RECBOLE = {
    "embedding_size": SAME.dim,
    "n_layers": SAME.layers,
    "reg_weight": SAME.regularization,
    "learning_rate": SAME.learning_rate,
    "train_batch_size": SAME.batch_size,
    "benchmark_filename": ["train", "valid", "test"],
    "load_col": {"inter": ["user_id", "item_id"]},
    "eval_args": {"order": "RO", "mode": "full"},
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
}
OURS = LightGcnSettings(loss="softmax")
"""What is fitted by default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help="Folder of RecBole's virtual environment")
    parser.add_argument("--dataset", default="amazon-baby")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Append the figures to this file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    python = _environment(given.environment)
    train = load_split(given.dataset).train
    same, usual = (EmbeddingFit(LightGcn(train, dim=s.dim, layers=s.layers, seed=0), train, s) for s in (SAME, OURS))
    spent: dict[str, list[dict[str, float]]] = {"recbole": [], "ours": [], "ours_default": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        _recbole(python, Path(folder), train, given.threads) as (worker, ready),
    ):
        assert ready["interactions"] == train.nnz, ready
        for number in range(-1, given.rounds):  # the first round warms both up
            turn = {
                "recbole": json.loads(_asked(worker)),
                "ours": _timed(same, number + 1),
                "ours_default": _timed(usual, number + 1),
            }
            print(number + 1, {name: round(one["wall"], 3) for name, one in turn.items()}, flush=True)
            if number >= 0:
                for name, one in turn.items():
                    spent[name].append(one)
    figures = {
        f"{name}_{kind}_s": round(median(one[kind] for one in rounds), 3)
        for name, rounds in spent.items()
        for kind in ("wall", "cpu")
    }
    for kind in ("wall", "cpu"):
        ratios = [a[kind] / b[kind] for a, b in zip(spent["ours"], spent["recbole"], strict=True)]
        figures[f"{kind}_ratio"] = round(median(ratios), 3)
    peer = {"constraints": list(CONSTRAINTS), "torch": ready["torch"], "threads": ready["threads"]}
    shown = {
        "dataset": given.dataset,
        "rounds": given.rounds,
        "recbole": peer,
        "settings": SAME.model_dump(mode="json"),
    }
    record("lightgcn-vs-recbole", {**shown, "default_batch_size": OURS.batch_size, **figures}, given.out)


def _environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *CONSTRAINTS], check=True)
    return python


@contextmanager
def _recbole(
    python: Path, folder: Path, train: sp.csr_matrix, threads: int
) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    data = folder / "peer"
    data.mkdir()
    coo = train.tocoo()
    rows = [f"u{user}\ti{item}" for user, item in zip(coo.row, coo.col, strict=True)]
    for part, lines in (("train", rows), ("valid", rows[:2]), ("test", rows[:2])):
        (data / f"peer.{part}.inter").write_text("\n".join(["user_id:token\titem_id:token", *lines]) + "\n")
    worker = Path(__file__).with_name("recbole_worker.py")
    command = [str(python), str(worker), str(folder), "peer", str(threads), json.dumps(RECBOLE)]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    with (
        (folder / "stderr").open("w+") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env={**os.environ, **limits, "PYTHONPATH": ""},
        ) as process,
    ):
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            errors.seek(0)
            raise SystemExit(f"RecBole did not start:\n{errors.read()[-2000:]}")
        try:
            yield process, json.loads(first)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _asked(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("epoch\n")
    process.stdin.flush()
    return process.stdout.readline()


def _timed(fit: EmbeddingFit, number: int) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    fit.epoch(number)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    main()
