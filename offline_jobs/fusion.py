"""Stage `fusion`: text, image and what else is known of an item into one learned 128-d vector; any may be missing.

Learned from pairs of items that one shopper bought close in time (training split alone), from pairs of a picture
and its own text, and with modalities hidden at random. Stopped early on validation's co-bought pairs.
`docs/FUSION.md` has the network, the table of modalities and what was measured.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save_file

from offline_jobs.co_bought import read_interactions
from offline_jobs.fusion_export import OUTPUTS, export_onnx, input_names, onnx_parity
from offline_jobs.fusion_fit import embed, fit
from offline_jobs.fusion_measure import KINDS, differences, found_by_each, means
from offline_jobs.fusion_model import Fusion
from offline_jobs.fusion_settings import FusionSettings
from offline_jobs.item_vectors import BLOCK, ItemVectors
from offline_jobs.modalities import names_of, open_modalities, stages_of
from training.dataset import VALIDATION
from training.stage import open_stage, require
from training.threads import torch_threads

__all__ = ["FusionSettings", "run_fusion"]

VERSION = 2


def run_fusion(settings: FusionSettings, work: Path) -> None:
    """Learn the fusion from the stages before it and write `<work>/fusion`; skipped where nothing changed."""
    names = names_of(settings.modalities)
    inputs = {name: require(work, name) for name in sorted({"split", *stages_of(names)})}
    with open_stage(work, "fusion", version=VERSION, inputs=inputs, settings=settings) as stage:
        if stage.fresh:
            return
        vectors, left_out = open_modalities(names, work, stage.scratch / "modalities")
        rows = read_interactions(inputs["split"], len(vectors))
        # The steps are small: a second thread does not help, and made them seven times slower where cores are shared.
        with torch_threads(1):
            model, history = fit(vectors, rows, settings, stage.scratch)
            write_vectors(model, vectors, stage.out)
            shares = found_by_each(
                model, vectors, rows, settings, split=VALIDATION, max_queries=settings.judged_queries
            )
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(state, stage.out / "fusion.safetensors")
        export_onnx(model, stage.out / "fusion.onnx")
        parity, cases = onnx_parity(model, stage.out / "fusion.onnx", vectors, settings.seed)
        found = means(shares)
        more = {name: {kind: asdict(gap) for kind, gap in gaps.items()} for name, gaps in differences(shares).items()}
        metrics = {
            "modalities": {name: int(table.present.sum()) for name, table in vectors.tables.items()},
            "left_out": left_out,
            "recall_at_20_of_co_bought": found,
            "fused_finds_more_than": more,
            "onnx_inputs": input_names(model.names),
            "onnx_largest_difference": parity,
            "onnx_cases": cases,
            "history": history,
        }
        (stage.out / "metrics.json").write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
        stage.count(
            items=len(vectors),
            items_present=int(vectors.present.sum()),
            modalities=len(vectors.tables),
            epochs=len(history) - 1,
            onnx_largest_difference=parity,
            **{
                f"recall_{of}_{name}": value
                for name, figures in found.items()
                for of, value in figures.items()
                if value is not None
            },
        )
        _say(found, more, vectors, left_out)


def write_vectors(model: Fusion, vectors: ItemVectors, out: Path) -> None:
    """Write fused.npy, look.npy, meaning.npy (items, dim) float32 and present.npy, a block of items at a time."""
    shape = (len(vectors), model.out.out_features)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with ExitStack() as opened:
        files = [opened.enter_context((out / f"{name}.npy").open("wb")) for name in OUTPUTS]
        for file in files:
            np.lib.format.write_array_header_1_0(file, header)
        starts = range(0, len(vectors), BLOCK)
        for start in track(starts, "item vectors", console=Console(stderr=True), transient=True):
            parts = embed(model, vectors, np.arange(start, min(start + BLOCK, len(vectors))))
            for file, part in zip(files, parts, strict=True):
                file.write(np.ascontiguousarray(part, "<f4").tobytes())
    np.save(out / "present.npy", vectors.present)


def _say(
    found: dict[str, dict[str, float | None]],
    more: dict[str, dict[str, dict[str, float]]],
    vectors: ItemVectors,
    left_out: dict[str, str],
) -> None:
    """The recalls as a table on stderr, and what was left out."""
    table = Table(title="recall@20 of validation's co-bought items (fused finds more by: 95 % interval)")
    for column in ("compared by", *KINDS):
        table.add_column(column)
    for name, figures in found.items():
        cells = []
        for kind in KINDS:
            gap = more.get(name, {}).get(kind)
            value = figures[kind]
            text = "-" if value is None else f"{value:.4f}"
            cells.append(text if gap is None else f"{text} ({gap['low']:+.4f} to {gap['high']:+.4f})")
        table.add_row(name, *cells)
    console = Console(stderr=True)
    console.print(table)
    console.print("modalities: " + ", ".join(vectors.tables), highlight=False)
    for name, why in left_out.items():
        console.print(f"left out: {name}, {why}", highlight=False)
