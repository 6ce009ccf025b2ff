"""What the fusion finds of co-bought items beside its raw inputs, over seeds; and what a fit costs at full size.

    python benchmarks/offline/fusion.py quality --work var/fashion-week/work --seeds 3 --keep var/fusion-seeds
    python benchmarks/offline/fusion.py cost --items 498196 --users 192403 --interactions 1689188 --out results.jsonl

`quality` fits once a seed on the work folder's stages (`--set epochs=8` changes a setting), judges every query of the
validation and test days, and prints a table: mean over seeds, and the 95 % interval of what `fused` finds more,
bootstrapped over query items, paired. A seed that `--keep` has is not fitted again. Choose by validation.

`cost` times the pieces of the stage on random unit vectors of the given size, and adds them up to the whole stage with
the default settings. The reference is the bare torch step: the same batches, already in memory, no gathering from disk.
Both are timed in turns, in one process. Peak memory is the process's own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from results import record

from offline_jobs.co_bought import Interactions, read_interactions, training_pairs
from offline_jobs.fusion import write_vectors
from offline_jobs.fusion_fit import _log_share, _recall, _step, fit, judges_of, new_model
from offline_jobs.fusion_measure import KINDS, Shares, difference, found_by_each
from offline_jobs.fusion_settings import FusionSettings
from offline_jobs.item_vectors import ItemVectors, open_table, side_by_side
from offline_jobs.modalities import names_of, open_modalities
from training.dataset import TEST, TRAIN, VALIDATION
from training.stage import peak_rss_kib, require

SPLITS = {"validation": VALIDATION, "test": TEST}
EVERY_QUERY = 10**9


def shares_of_seed(work: Path, settings: FusionSettings, keep: Path) -> dict[str, Shares]:
    """Split -> shares by way, kind and query, of one fit; kept in, or taken from, `keep`."""
    path = keep / f"seed-{settings.seed}.npz"
    if not path.exists():
        with tempfile.TemporaryDirectory() as scratch:
            vectors, _ = open_modalities(names_of(settings.modalities), work, Path(scratch))
            rows = read_interactions(require(work, "split"), len(vectors))
            model, _ = fit(vectors, rows, settings, keep / f"fit-{settings.seed}")
            arrays = {
                f"{split}/{way}/{kind}": values
                for split, number in SPLITS.items()
                for way, kinds in found_by_each(
                    model, vectors, rows, settings, split=number, max_queries=EVERY_QUERY
                ).items()
                for kind, values in kinds.items()
            }
        np.savez(path.with_suffix(".part.npz"), **arrays)
        os.replace(path.with_suffix(".part.npz"), path)
    shares: dict[str, Shares] = {split: {} for split in SPLITS}
    with np.load(path) as file:
        for name in file.files:
            split, way, kind = name.split("/")
            shares[split].setdefault(way, {})[kind] = file[name]
    return shares


def quality(options: argparse.Namespace) -> dict[str, object]:
    """The table, and what it says as a JSON object."""
    keep: Path = options.keep
    keep.mkdir(parents=True, exist_ok=True)
    changed = dict(pair.split("=", 1) for pair in options.set)
    settings = FusionSettings.model_validate(changed)
    noted = keep / "settings.json"
    if noted.exists() and noted.read_text() != settings.model_dump_json():
        raise SystemExit(f"error: {noted}: kept fits are of other settings. Give another --keep")
    noted.write_text(settings.model_dump_json())
    seeds = [
        shares_of_seed(options.work, settings.model_copy(update={"seed": seed}), keep) for seed in range(options.seeds)
    ]
    rows: list[dict[str, object]] = []
    print(f"modalities {settings.modalities}, {options.seeds} seeds\n")
    print("| split | targets | queries | compared by | recall@20 | fused finds more |\n|---|---|---|---|---|---|")
    for split in SPLITS:
        for kind in KINDS:
            for way in seeds[0][split]:
                if kind not in seeds[0][split][way]:
                    continue
                each = np.stack([one[split][way][kind] for one in seeds])
                fused = np.stack([one[split]["fused"][kind] for one in seeds])
                by_seed = [round(float(value), 5) for value in each.mean(axis=1)]
                gap = difference(fused.mean(axis=0), each.mean(axis=0))
                rows.append(
                    {"split": split, "targets": kind, "way": way, "queries": each.shape[1], "by_seed": by_seed}
                    | {"recall": round(float(each.mean()), 5), "more": gap.mean, "low": gap.low, "high": gap.high}
                )
                several = len(set(by_seed)) > 1
                listed = f" ({', '.join(f'{value:.4f}' for value in by_seed)})" if several else ""
                more = "" if way == "fused" else f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
                print(f"| {split} | {kind} | {each.shape[1]} | {way} | {each.mean():.4f}{listed} | {more} |")
    return {"settings": settings.model_dump(), "seeds": options.seeds, "rows": rows}


def random_shop(options: argparse.Namespace, folder: Path) -> tuple[ItemVectors, Interactions]:
    """Unit vectors on disk and interactions of a long-tailed eighth of the items, three of four in training."""
    rng = np.random.default_rng(0)
    present = np.ones(options.items, np.bool_)
    tables = {}
    for name, width in (("text", 384), ("image", 512), ("lexical", 192), ("category", 64))[: options.modalities]:
        path = folder / f"{name}.npy"
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": (options.items, width)}
            )
            for start in range(0, options.items, 8_192):
                block = rng.standard_normal((min(8_192, options.items - start), width), np.float32)
                file.write((block / np.linalg.norm(block, axis=1, keepdims=True)).astype("<f4").tobytes())
        tables[name] = open_table(path, present, width=width, dropout=0.2, alone=name != "category")
    warm = max(options.items // 8, 2)
    n = options.interactions
    item = np.minimum((warm * rng.random(n) ** 2).astype(np.int64), warm - 1) * (options.items // warm)
    rows = Interactions(
        rng.integers(0, options.users, n).astype(np.int32),
        item.astype(np.int32),
        rng.integers(0, 300 * 86_400, n),
        rng.choice(np.array([TRAIN, VALIDATION, TEST], np.int8), n, p=[0.8, 0.1, 0.1]),
        num_users=options.users,
        num_items=options.items,
    )
    return side_by_side(tables), rows


class InMemory(ItemVectors):
    """Gives one batch's inputs again and again: the step without reading."""

    def inputs(self, rows: np.ndarray) -> tuple[list[torch.Tensor], torch.Tensor]:
        return self.__dict__["held"]


def cost(options: argparse.Namespace) -> dict[str, object]:
    """Seconds of each piece and of the whole stage, the bare step beside the stage's own, and peak memory."""
    torch.set_num_threads(1)
    settings = FusionSettings(window_days=30.0)
    found: dict[str, float] = {}

    def timed(name: str, since: float) -> None:
        found[f"{name}_s"] = round(time.perf_counter() - since, 3)
        print(f"{name}: {found[f'{name}_s']} s", flush=True)

    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        vectors, rows = random_shop(options, Path(folder))
        start = time.perf_counter()
        model = new_model(vectors, settings)
        timed("start_at_pca", start)
        start = time.perf_counter()
        pairs = training_pairs(rows, window_days=settings.window_days, reach=settings.reach, seed=0)
        judges = [
            judged
            for kind, judged in judges_of(vectors, rows, settings, VALIDATION, 2_000).items()
            if kind in KINDS[:2]
        ]
        timed("pairs", start)
        log_share, rng = _log_share(pairs, len(vectors)), np.random.default_rng(0)
        optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
        drawn = pairs[rng.permutation(len(pairs))]
        whole, bare = [], []
        for number in range(options.steps + 2):
            batch = drawn[number * settings.batch_pairs : (number + 1) * settings.batch_pairs]
            held = InMemory(vectors.tables)
            held.__dict__["held"] = vectors.inputs(np.unique(batch))
            for times, source in ((bare, held), (whole, vectors))[:: 1 if number % 2 else -1]:
                since = time.perf_counter()
                _step(model, optimizer, source, batch, log_share, rng, settings)
                times.append(time.perf_counter() - since)
        start = time.perf_counter()
        _recall(model, vectors, judges)
        timed("judging", start)
        start = time.perf_counter()
        write_vectors(model, vectors, Path(folder))
        timed("item_vectors", start)
        start = time.perf_counter()
        found_by_each(model, vectors, rows, settings, split=VALIDATION, max_queries=settings.judged_queries)
        timed("measuring", start)
    step, reference = float(np.median(whole[2:])), float(np.median(bare[2:]))
    steps = settings.epochs * -(-min(len(pairs), settings.pairs_per_epoch) // settings.batch_pairs)
    total = sum(found.values()) + steps * step + settings.epochs * found["judging_s"]
    return {
        "items": options.items,
        "interactions": options.interactions,
        "modalities": list(vectors.tables),
        "pairs": len(pairs),
        **found,
        "step_ms": round(step * 1e3, 2),
        "bare_step_ms": round(reference * 1e3, 2),
        "ratio": round(step / reference, 3),
        "steps_at_most": steps,
        "stage_s_at_most": round(total, 1),
        "peak_mib": round(peak_rss_kib() / 1024),
    }


def main() -> None:
    """Parse the flags, run, print, and append a JSON line to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    one = modes.add_parser("quality")
    one.add_argument("--work", type=Path, default=Path("var/fashion-week/work"))
    one.add_argument("--seeds", type=int, default=3)
    one.add_argument("--keep", type=Path, default=Path("var/fusion-seeds"), help="folder of each seed's fit and shares")
    one.add_argument("--set", action="append", default=[], help="a setting of the stage, as epochs=8")
    two = modes.add_parser("cost")
    two.add_argument("--items", type=int, default=498_196)
    two.add_argument("--users", type=int, default=192_403)
    two.add_argument("--interactions", type=int, default=1_689_188)
    two.add_argument("--modalities", type=int, default=2, help="2 is text and image; 3 and 4 add two more")
    two.add_argument("--steps", type=int, default=30)
    two.add_argument("--scratch", type=Path, default=None, help="folder for 2 GB of random vectors")
    for mode in (one, two):
        mode.add_argument("--out", type=Path, default=None, help="file to append a JSON line to")
    options = parser.parse_args()
    found = {"quality": quality, "cost": cost}[options.mode](options)
    record(f"fusion {options.mode}", found, options.out)


if __name__ == "__main__":
    main()
