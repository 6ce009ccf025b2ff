"""Texts/s of `embed-text`, the whole job, beside its raw encoder loop in the same run; cosine to fp32; peak memory.

    python benchmarks/offline/text_embeddings.py --rows 20000                         # a generated shop's texts
    python benchmarks/offline/text_embeddings.py --rows 20000 --work var/shop/work    # a work folder's items

For each backend and each kind of text, in this order:
  raw   the very model on tokens that are ready, in length-sorted batches, one a core: nothing is read or written
  job   the command in a process of its own, from items.parquet to vectors.npy; `job` counts the stage (reading, tokens,
        loading the model, encoding, shards, writing), `command` the process from its start with Python's imports
  raw   once more: the mean of the two loops is the reference, since a shared machine's speed drifts
`cosine` is to sentence-transformers in fp32; `near10` the share of a text's ten nearest that stay, over a sample.
Texts are counted as the encoder sees them: identical ones once. Titles are cut, or go on with the item's other words,
to about 18 tokens; `tokens` says how many there were.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel
from results import record

from offline_jobs.item_texts import ALL_FIELDS, TEXT_COLUMNS, distinct_texts, read_texts
from offline_jobs.text_encoders import Compute, load_encoder, resolve_backend, shard_encoder
from offline_jobs.text_model import TextTokenizer, resolve_model
from training.stage import open_stage, read_record
from training.threads import torch_threads

KINDS = {"title": "title of about 18 tokens", "full": "title, category, brand, description up to 128 tokens"}
TITLE_TOKENS = 18
SAMPLE = 1000


class Rows(BaseModel):
    """Which rows were measured."""

    rows: int


def items_of(args: argparse.Namespace, scratch: Path) -> pl.DataFrame:
    """The items to embed: of the work folder, else of a generated shop."""
    if args.work is None:
        run = [sys.executable, "-m", "offline_jobs"]
        raw, work = scratch / "raw", scratch / "work"
        size = ["--items", str(args.rows), "--users", str(args.rows // 4 + 10), "--interactions", str(args.rows * 2)]
        subprocess.run([*run, "generate", *size, "--out", str(raw)], check=True)
        subprocess.run([*run, "ingest", "--data", str(raw), "--work", str(work)], check=True)
    table = pl.read_parquet((args.work or work) / "ingest" / "items.parquet", columns=list(TEXT_COLUMNS))
    return table.sample(min(args.rows, len(table)), seed=0)


def titles(table: pl.DataFrame, tokenizer: TextTokenizer) -> pl.DataFrame:
    """Titles of about 18 tokens: so many of an item's words, the title's first, that the mean comes nearest."""
    words = table.select(pl.concat_str(list(TEXT_COLUMNS), separator=" ", ignore_nulls=True).str.split(" "))
    words = words.to_series()

    def far(count: int) -> float:
        batches = tokenizer.batches(words.head(SAMPLE).list.head(count).list.join(" ").to_list(), 4096)
        return abs(sum(int(batch.mask.sum()) for batch in batches) / min(SAMPLE, len(words)) - TITLE_TOKENS)

    return table.with_columns(title=words.list.head(min(range(4, 19), key=far)).list.join(" "))


def prepare(table: pl.DataFrame, work: Path) -> None:
    """A work folder whose ingest stage holds these items."""
    with open_stage(work, "ingest", version=1, inputs={}, settings=Rows(rows=len(table))) as stage:
        table.write_parquet(stage.out / "items.parquet")


def raw_loop(folder: Path, compute: Compute, texts: list[str], threads: int) -> tuple[float, float]:
    """Texts/s of the model alone, warm, and the mean number of tokens a text."""
    encoder, tokenizer = load_encoder(folder, compute), TextTokenizer(folder, 128)
    batches = tokenizer.batches(texts, compute.batch_tokens)
    with torch_threads(1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(encoder, batches[-2 * threads :]))
        start = time.perf_counter()
        done = sum(len(vectors) for vectors in pool.map(encoder, batches))
        seconds = time.perf_counter() - start
    return done / seconds, sum(int(batch.mask.sum()) for batch in batches) / done


def likeness(folder: Path, texts: list[str], vectors: np.ndarray) -> tuple[float, float, float]:
    """Mean and least cosine to fp32 of sentence-transformers, and the share of ten nearest neighbours that stay."""
    with torch_threads(os.cpu_count()), ThreadPoolExecutor(1) as pool:
        encode = shard_encoder(
            load_encoder(folder, Compute("torch", "cpu", "fp32")), TextTokenizer(folder, 128), texts, pool, 1024
        )
        exact, _ = encode(0, len(texts), lambda done: None)
    cosine = (exact * vectors).sum(1)
    nearest = [np.argsort(-(x @ x.T) + 2 * np.eye(len(x)), axis=1)[:, :10] for x in (exact, vectors)]
    kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*nearest, strict=True)])
    return float(cosine.mean()), float(cosine.min()), float(kept)


def measure(args: argparse.Namespace, folder: Path, backend: str, kind: str, work: Path) -> dict[str, object]:
    """One line of the table."""
    fields = "title" if kind == "title" else ALL_FIELDS
    texts, row = distinct_texts(read_texts(work / "ingest" / "items.parquet", fields))
    name, _, precision = backend.partition(":")
    compute = resolve_backend(name, folder, "auto", precision or "auto")
    threads = args.threads if compute.device == "cpu" else 1
    before, tokens = raw_loop(folder, compute, texts, threads)
    command = [sys.executable, "-m", "offline_jobs", "embed-text", "--work", str(work), "--model", str(folder)]
    command += ["--backend", name, "--precision", precision or "auto", "--threads", str(args.threads)]
    command += ["--fields", fields]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start
    after, _ = raw_loop(folder, compute, texts, threads)
    record = read_record(work / "text_embeddings")
    raw, job = (before + after) / 2, len(texts) / record.wall_seconds
    vectors = np.load(work / "text_embeddings" / "vectors.npy", mmap_mode="r")
    first = np.full(len(texts), -1)
    first[row[row >= 0]] = np.flatnonzero(row >= 0)
    sample = np.sort(np.random.default_rng(0).choice(len(texts), min(SAMPLE, len(texts)), replace=False))
    mean, least, kept = likeness(folder, [texts[i] for i in sample], np.asarray(vectors[first[sample]]))
    return {
        "backend": backend,
        "resolved": f"{compute.backend} {compute.device} {compute.precision}",
        "text": KINDS[kind],
        "texts": len(texts),
        "tokens": round(tokens, 1),
        "raw_per_s": round(raw),
        "job_per_s": round(job),
        "ratio": round(job / raw, 3),
        "command_per_s": round(len(texts) / seconds),
        "cosine_mean": round(mean, 5),
        "cosine_min": round(least, 5),
        "near10": round(kept, 3),
        "peak_mib": record.peak_rss_mib,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="items to take")
    parser.add_argument("--work", type=Path, help="a work folder whose ingest stage ran; else a shop is generated")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--backends", nargs="+", default=["onnx-int8", "torch:bf16", "onnx-fp32", "torch:fp32"])
    parser.add_argument("--texts", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="a file to which each line is appended as JSON")
    args = parser.parse_args()
    folder = resolve_model(args.model)
    with tempfile.TemporaryDirectory() as scratch:
        table = items_of(args, Path(scratch))
        for kind in args.texts:
            work = Path(scratch) / kind
            prepare(titles(table, TextTokenizer(folder, 128)) if kind == "title" else table, work)
            for backend in args.backends:
                record("text embeddings", measure(args, folder, backend, kind, work), args.out)


if __name__ == "__main__":
    main()
