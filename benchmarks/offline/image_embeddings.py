"""Images/s of the whole stage `image_embeddings`, beside the bare encoder loop in the same run, for each encoder.

    .venv/bin/python benchmarks/offline/image_embeddings.py --rows 4000 --out results.jsonl
    .venv/bin/python benchmarks/offline/image_embeddings.py --data FOLDER --encoder efficientnet-lite0 --rows 20000

The whole job is `run_image_embeddings`: reading, hashing, decoding, encoding, shards, projection, the files it leaves.
The bare loop encodes pictures that were decoded before, on the same threads and in the same batches; it runs before and
after the job, and the mean of both is the reference. CPU ms an image are given too: those compare where others use the
machine. clip has its real architecture and seeded weights. Each encoder
has a process of its own, whose peak memory is the stage's. Prints a JSON line each; pictures are those of the generated
shop, or the files and tar members below --data.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel
from results import record

from offline_jobs.clip_encoder import ARCHITECTURE
from offline_jobs.image_embeddings import run_image_embeddings
from offline_jobs.image_encoders import OFFLINE, SIDE, ImageEncoder
from offline_jobs.image_settings import ImageEmbeddingSettings, choose_encoder
from offline_jobs.image_store import Bounds, ImageStore, UnusableImageError, decode
from offline_jobs.torchvision_cpu import mend_torchvision
from training.stage import open_stage, read_record
from training.threads import torch_threads

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
DECODED = 256
"""Pictures that the bare loop goes round."""


class Rate(NamedTuple):
    """How fast images went."""

    per_second: float
    cpu_ms: float
    """CPU milliseconds an image, all threads together."""


class Clock:
    """Wall and CPU time since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def rate(self, images: float) -> Rate:
        """The rate of so many images since then."""
        return Rate(images / (time.perf_counter() - self.wall), (time.process_time() - self.cpu) / images * 1e3)


class _Rows(BaseModel):
    rows: int


def references_below(data: Path) -> list[str]:
    """References to all pictures below the folder, in its tar files too, in order of name."""
    found = [str(path.relative_to(data)) for path in sorted(data.rglob("*")) if path.suffix.lower() in SUFFIXES]
    for archive in sorted(data.rglob("*.tar")):
        with tarfile.open(archive) as tar:
            names = sorted(m.name.removeprefix("./") for m in tar if m.name.lower().endswith(SUFFIXES))
        found += [f"{archive.relative_to(data)}::{name}" for name in names]
    return found


def generated(folder: Path, rows: int) -> Path:
    """A generated shop with at least `rows` pictures."""
    command = [sys.executable, "-m", "offline_jobs", "generate", "--items", str(rows), "--image-share", "1"]
    subprocess.run([*command, "--users", "50", "--out", str(folder / "shop")], check=True, stdout=subprocess.DEVNULL)
    return folder / "shop"


def seeded_clip(folder: Path) -> Path:
    """ViT-B/32 with seeded weights: its speed is that of the trained one."""
    mend_torchvision()
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = folder / "clip.safetensors"
    save_file({k: v.contiguous() for k, v in open_clip.create_model(ARCHITECTURE).state_dict().items()}, path)
    return path


def bare_loop(encoder: ImageEncoder, batches: list[Any], threads: int, images: int) -> Rate:
    """`encode` alone, on so many threads, about so many images."""
    rounds = max(threads, images // len(batches[0]))
    with ThreadPoolExecutor(threads) as pool, torch_threads(1):
        list(pool.map(encoder.encode, batches[:threads]))
        start = Clock()
        done = sum(map(len, pool.map(encoder.encode, (batches[at % len(batches)] for at in range(rounds)))))
        return start.rate(done)


def measure(name: str, data: Path, references: list[str], threads: int) -> dict[str, Any]:
    """One encoder's figures; run in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        given = str(seeded_clip(Path(scratch))) if name == "clip" else None
        settings = ImageEmbeddingSettings.model_validate({"encoder": name, "clip_weights": given, "threads": threads})
        chosen = choose_encoder(settings)
        encoder = chosen.load()
        batches = decoded(encoder, data, references, chosen.batch_size)
        sample = max(len(references) // 4, DECODED)
        before = bare_loop(encoder, batches, threads, sample)
        work = Path(scratch) / "work"
        with open_stage(work, "ingest", version=1, inputs={}, settings=_Rows(rows=len(references))) as stage:
            pl.DataFrame({"image": references}).write_parquet(stage.out / "items.parquet")
        clock = Clock()
        run_image_embeddings(settings, data, work)
        record = read_record(work / "image_embeddings")
        assert record is not None
        whole = clock.rate(record.counts["distinct_images"])
        after = bare_loop(encoder, batches, threads, sample)
        bare = Rate(*np.mean([before, after], axis=0))
        return {
            "encoder": chosen.record.name,
            "precision": chosen.record.precision,
            "items": len(references),
            "distinct_images": record.counts["distinct_images"],
            "threads": threads,
            "images_per_s": round(whole.per_second, 1),
            "bare_loop_images_per_s": round(bare.per_second, 1),
            "bare_loop_before_after": [round(before.per_second, 1), round(after.per_second, 1)],
            "bare_over_whole": round(bare.per_second / whole.per_second, 3),
            "cpu_ms_per_image": round(whole.cpu_ms, 2),
            "bare_loop_cpu_ms_per_image": round(bare.cpu_ms, 2),
            "cpu_whole_over_bare": round(whole.cpu_ms / bare.cpu_ms, 3),
            "peak_rss_mib": record.peak_rss_mib,
        }


def decoded(encoder: ImageEncoder, data: Path, references: list[str], batch_size: int) -> list[Any]:
    """Up to DECODED pictures as the encoder takes them, in batches of the stage's size."""
    pixels = []
    with ImageStore(data) as store:
        store.open_archives(list(references[:DECODED]))
        for reference in references[:DECODED]:
            try:
                pixels.append(encoder.prepare(decode(store.read(reference), Bounds(), side=SIDE)))
            except UnusableImageError:
                continue
    return [np.stack(pixels[at : at + batch_size]) for at in range(0, len(pixels), batch_size)]


def main() -> None:
    """Measure each encoder that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with pictures; without it a shop is generated")
    parser.add_argument("--rows", type=int, default=4_000, help="pictures")
    parser.add_argument("--encoder", action="append", choices=[*OFFLINE, "clip"], help="may be given several times")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="file to append the JSON lines to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = given.data or generated(Path(scratch), given.rows)
        references = references_below(data)[: given.rows]
        if not references:
            parser.error(f"no pictures below {data}")
        for name in given.encoder or [*OFFLINE, "clip"]:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                figures = process.submit(measure, name, data, references, given.threads).result()
            record("image embeddings", figures, given.out)


if __name__ == "__main__":
    main()
