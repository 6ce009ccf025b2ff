"""Fit the two heads on a file of logged slates, say how good they are, and export them to ONNX.

<out>/model.onnx         features (b, C, F) -> probability (b, C), score (b, C)
<out>/multi_task.json    figures on the part of the log that was kept aside, parity, settings
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from service.bundle.native import open_session
from service.errors import DataError, StageError
from training.export_onnx import OPSET, TOLERANCE
from training.extended.impressions import Impressions, load_impressions
from training.extended.multi_task import MultiTask, Served
from training.extended.multi_task_fit import MultiTaskSettings, fit_multi_task, judge_log
from training.files import write_whole

KEPT_ASIDE = 0.1
"""Share of the log, its end, that judges; as much before it chooses the epochs."""
FEWEST = 20
"""Slates below which nothing can be told."""


def run_multi_task(settings: MultiTaskSettings, log: Path, out: Path) -> None:
    """Fit on the log's beginning, choose on what follows, judge on its end, export; all or nothing is written.

    Raises DataError where the log is none or holds fewer than 20 slates, StageError where ONNX differs from torch.
    """
    slates = load_impressions(log)
    if len(slates) < FEWEST:
        raise DataError(f"{len(slates)} slates are too few", where=str(log), todo=f"Log at least {FEWEST}")
    aside = max(1, int(KEPT_ASIDE * len(slates)))
    begin, middle, end = slice(0, -2 * aside), slice(-2 * aside, -aside), slice(-aside, None)
    model, curves = fit_multi_task(slates.where(begin), slates.where(middle), settings)
    judged = slates.where(end)
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".model-{os.getpid()}.onnx"
    try:
        parity = export_multi_task(model, temporary, hard_cases(judged))
        report = {
            "slates": len(judged),
            "epochs": curves.best_epochs,
            "parity_max_abs_diff": parity,
            "metrics": judge_log(model, judged, settings),
            "settings": settings.model_dump(),
        }
        os.replace(temporary, out / "model.onnx")
    finally:
        temporary.unlink(missing_ok=True)
    write_whole(out / "multi_task.json", json.dumps(report, indent=1))


def hard_cases(slates: Impressions) -> list[torch.Tensor]:
    """Features that break exporters: one item, one slate, many candidates, zeros, and far out of range."""
    features = torch.from_numpy(slates.features)
    many = features.flatten(0, 1)[torch.arange(200) % (features.shape[0] * features.shape[1])][None]
    return [features[:3], features[:1, :1], features[:1], many, torch.zeros_like(many), 100 * many]


def export_multi_task(model: MultiTask, path: Path, cases: list[torch.Tensor]) -> float:
    """Write the served model with free batch and list dimensions; the largest difference from torch over all cases.

    Raises StageError where it exceeds 1e-4.
    """
    served = Served(model).eval()
    free = {0: "batch", 1: "candidates"}
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated but exports free dimensions without specialising the example's.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            served,
            (cases[0],),
            str(path),
            input_names=["features"],
            output_names=["probability", "score"],
            dynamic_axes={"features": free, "probability": free, "score": free},
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path))
    session = open_session(path)
    difference = 0.0
    for case in cases:
        with torch.no_grad():
            expected = served(case)
        actual = session.run(["probability", "score"], {"features": case.numpy()})
        for want, got in zip(expected, actual, strict=True):
            difference = max(difference, float(np.abs(want.numpy() - got).max(initial=0.0)))
    if difference > TOLERANCE:
        raise StageError(
            f"onnxruntime and torch differ by {difference:.2e}, more than {TOLERANCE:.0e}",
            where=str(path),
            todo="Check the exporter's version against constraints.txt",
        )
    return difference
