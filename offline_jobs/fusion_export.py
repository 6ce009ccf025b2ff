"""The fusion network as one ONNX file, and how far onnxruntime's answers are from torch's."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from offline_jobs.fusion_model import Fusion
from offline_jobs.item_vectors import ItemVectors

INPUTS = ("text", "image", "text_present", "image_present")
OUTPUTS = ("fused", "look", "meaning")
OPSET = 18


def export_onnx(model: Fusion, path: Path) -> None:
    """Write the network as one ONNX file with a dynamic batch `b`, without the exporter's notes on where code lay."""
    sample = (
        torch.zeros(2, model.text_in.in_features),
        torch.zeros(2, model.image_in.in_features),
        torch.ones(2, 1),
        torch.ones(2, 1),
    )
    for library in ("onnxscript", "onnx_ir"):  # their optimiser reports every node at INFO
        logging.getLogger(library).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # torch 2.13's exporter deep-copies a class that torch itself has deprecated.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
        program = torch.onnx.export(
            model.eval(),
            sample,
            dynamo=True,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in INPUTS),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "b"
    for noted in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


PRESENCE_CASES = ((1, 1), (1, 0), (0, 1), (0, 0))
"""Text and image present or hidden: each is held against torch."""


def onnx_parity(model: Fusion, path: Path, vectors: ItemVectors, seed: int) -> float:
    """Largest absolute difference of onnxruntime from torch: up to 512 items in all four presence cases."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(vectors), min(512, len(vectors)), replace=False))
    largest = 0.0
    for t, v in PRESENCE_CASES:
        text, image, has_text, has_image = vectors.inputs(rows)
        inputs = (text, image, has_text * t, has_image * v)
        with torch.inference_mode():
            expected = model.eval()(*inputs)
        got = session.run(None, dict(zip(INPUTS, (part.numpy() for part in inputs), strict=True)))
        largest = max(largest, *(float(np.abs(a.numpy() - b).max()) for a, b in zip(expected, got, strict=True)))
    return largest
