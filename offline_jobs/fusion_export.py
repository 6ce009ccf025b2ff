"""The fusion network as one ONNX file, and how far onnxruntime's answers are from torch's.

Inputs, in this order: text, image, text_present, image_present, which every caller gives; then NAME and NAME_present of
each other modality, which have a default (absent) and may be left out. So a caller that knows an item's text and image
alone, as the service does, needs no word about what else the network was taught.
"""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from offline_jobs.array_types import FloatArray
from offline_jobs.fusion_model import Fusion
from offline_jobs.item_vectors import IMAGE, TEXT, ItemVectors

OUTPUTS = ("fused", "look", "meaning")
OPSET = 18
PARITY_ITEMS = 512


def input_names(names: Sequence[str]) -> tuple[str, ...]:
    """The ONNX file's inputs for modalities `names`, which begin with text and image, in order."""
    side = [part for name in names if name not in (TEXT, IMAGE) for part in (name, present(name))]
    return TEXT, IMAGE, present(TEXT), present(IMAGE), *side


def present(name: str) -> str:
    """The name of a modality's presence bit."""
    return f"{name}_present"


class _Flat(nn.Module):
    """The network with one tensor an argument, in `input_names`' order."""

    def __init__(self, model: Fusion) -> None:
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Fusion.forward`."""
        by_name = dict(zip(input_names(self.model.names), given, strict=True))
        names = self.model.names
        outputs: tuple[Tensor, Tensor, Tensor] = self.model(
            [by_name[name] for name in names], [by_name[present(name)] for name in names]
        )
        return outputs


def export_onnx(model: Fusion, path: Path) -> None:
    """Write the network as one ONNX file with a dynamic batch `b`, without the exporter's notes on where code lay."""
    inputs = input_names(model.names)
    widths = model.widths | {present(name): 1 for name in model.names}
    for library in ("onnxscript", "onnx_ir"):  # their optimiser reports every node at INFO
        logging.getLogger(library).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # torch 2.13's exporter deep-copies a class that torch itself has deprecated.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
        program = torch.onnx.export(
            _Flat(model).eval(),
            tuple(torch.ones(2, widths[name]) for name in inputs),
            dynamo=True,
            input_names=inputs,
            output_names=OUTPUTS,
            dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _let_side_inputs_be_left_out(proto)
    for value in proto.graph.output:
        value.type.tensor_type.shape.dim[0].dim_param = "b"
    for noted in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _let_side_inputs_be_left_out(proto: onnx.ModelProto) -> None:
    """An input that an initializer has the name of is optional: one row of zeros, which counts for every item."""
    for value in proto.graph.input:
        rows, width = value.type.tensor_type.shape.dim
        if value.name in input_names((TEXT, IMAGE)):
            rows.dim_param = "b"
            continue
        rows.dim_param = f"b_or_1_{value.name}"
        default: FloatArray = np.zeros((1, width.dim_value), np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(default, value.name))
    del proto.graph.value_info[:]  # inferred for equal batches


def onnx_parity(model: Fusion, path: Path, vectors: ItemVectors, seed: int) -> tuple[float, int]:
    """Largest absolute difference of onnxruntime from torch over up to 512 items, and how many cases were held.

    Text and image present or hidden, each with the other modalities given and left out.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(vectors), min(PARITY_ITEMS, len(vectors)), replace=False))
    values, has = vectors.inputs(rows)
    side = [name for name in model.names if name not in (TEXT, IMAGE)]
    largest, cases = 0.0, 0
    for text, image, others in itertools.product((1, 0), (1, 0), (1, 0) if side else (0,)):
        shown = {TEXT: text, IMAGE: image}
        bits = [has[:, i : i + 1] * shown.get(name, others) for i, name in enumerate(model.names)]
        given = dict(zip(model.names, values, strict=True))
        given |= {present(name): bit for name, bit in zip(model.names, bits, strict=True)}
        kept = input_names(model.names if others else (TEXT, IMAGE))
        with torch.inference_mode():
            expected = model.eval()(values, bits)
        got = session.run(None, {name: given[name].numpy() for name in kept})
        largest = max(largest, *(float(np.abs(a.numpy() - b).max()) for a, b in zip(expected, got, strict=True)))
        cases += 1
    return largest, cases
