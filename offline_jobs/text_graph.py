"""A sentence encoder of the BERT family as one ONNX graph: tokens in, unit vectors out, in fp32 or int8.

The graph is written node by node from config.json and model.safetensors, without torch: it holds nothing but what
onnxruntime runs fast. Devlin et al. 2019, post-layer-norm; b = texts, s = tokens, h = hidden, n = heads, d = h / n:

    x = LN(word + position + type)                                    (b, s, h)
    x = LN(x + O softmax(Q K' / sqrt(d) + mask) V),  x = LN(x + W2 gelu(W1 x))      a layer
    vector = unit(mean of x over the text's tokens, or x at the first token)        (b, h)

int8: weights symmetric per output channel, once; a layer's input as uint8 over the range that the batch shows; sums in
int32 (`MatMulIntegerToFloat`); all between the products in fp32. The fused operators for attention and for residual
plus norm were measured and left out: on a CPU they cost more than the plain ones (docs/ENCODERS.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from offline_jobs.text_model import read_json

FloatTable = npt.NDArray[np.float32]
MICROSOFT = "com.microsoft"
OPSET = 18
POSITION_OFFSET = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}
"""Model type -> whether its positions begin after the padding token's number."""
POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def pooling_of(folder: Path) -> str | None:
    """`mean` or `cls`; None where the folder pools in another way."""
    config = read_json(folder / "1_Pooling" / "config.json")
    named = config.get("pooling_mode")
    modes = (
        [named]
        if isinstance(named, str)
        else [key for key in config if key.startswith("pooling_mode_") and config[key]]
    )
    return POOLING.get(modes[0], modes[0] if modes[0] in POOLING.values() else None) if len(modes) == 1 else None


def why_not(folder: Path) -> str | None:
    """Why this model has no graph here; None where it has one."""
    config = read_json(folder / "config.json")
    modules = onnx_modules(folder)
    if config.get("model_type") not in POSITION_OFFSET:
        return f"its type is {config.get('model_type')!r}, not one of {', '.join(POSITION_OFFSET)}"
    if config.get("hidden_act") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        return "it has another activation than gelu, or positions that are not absolute"
    if modules not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return f"its parts are {modules}, not Transformer, Pooling and Normalize"
    if pooling_of(folder) is None:
        return "it pools neither by the mean nor by the first token"
    return None if (folder / "model.safetensors").is_file() else "it has no model.safetensors"


def onnx_modules(folder: Path) -> list[str]:
    """The class names of the folder's parts, in order."""
    try:
        return [str(part["type"]).rsplit(".", 1)[-1] for part in json.loads((folder / "modules.json").read_bytes())]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return []


def build_graph(folder: Path, *, int8: bool, weight_bits: int = 8) -> onnx.ModelProto:
    """The graph of a model for which `why_not` has nothing to say.

    Inputs `tokens` and `mask`, int32 (b, s), padding on the right; output `vectors`, float32 (b, h), unit rows.
    """
    config = read_json(folder / "config.json")
    weights = load_file(folder / "model.safetensors")
    weights = {
        name.split(".", 1)[1] if name.startswith(("bert.", "roberta.")) else name: w for name, w in weights.items()
    }
    return _Graph(config, weights, weight_bits if int8 else None).build(pooling_of(folder) or "mean")


def quantised(weight: FloatTable, bits: int) -> tuple[npt.NDArray[np.int8], FloatTable]:
    """A weight (in, out) as int8 and a scale an output channel (out,): symmetric, of so many bits."""
    top = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / top
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


class _Graph:
    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, FloatTable], bits: int | None) -> None:
        self.config, self.weights, self.bits = config, weights, bits
        self.hidden, self.heads = config["hidden_size"], config["num_attention_heads"]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def build(self, pooling: str) -> onnx.ModelProto:
        mask = self.op("Cast", ["mask"], "mask_f", to=TensorProto.FLOAT)
        hide = self.op(
            "Mul",
            [
                self.op("Sub", [mask, self.const("one", np.array(1, np.float32))], "hidden"),
                self.const("much", np.array(1e9, np.float32)),
            ],
            "hide",
        )
        hide = self.op("Unsqueeze", [hide, self.const("axes_12", np.array([1, 2]))], "hide4")
        x = self.embed()
        for layer in range(self.config["num_hidden_layers"]):
            x = self.layer(f"encoder.layer.{layer}", x, hide)
        if pooling == "mean":  # unit length is taken after it, so the sum does
            x = self.op(
                "MatMul", [self.op("Unsqueeze", [mask, self.const("axis_1", np.array([1]))], "mask3"), x], "sum"
            )
            x = self.op("Squeeze", [x, "axis_1"], "pooled")
        else:
            x = self.op("Gather", [x, self.const("first", np.array(0))], "pooled", axis=1)
        self.op("LpNormalization", [x], "vectors", axis=-1, p=2)
        graph = helper.make_graph(
            self.nodes,
            "text_encoder",
            [helper.make_tensor_value_info(name, TensorProto.INT32, ["b", "s"]) for name in ("tokens", "mask")],
            [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["b", self.hidden])],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="plotpointe")

    def embed(self) -> str:
        table = (
            self.weights["embeddings.position_embeddings.weight"]
            + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        if POSITION_OFFSET[self.config["model_type"]]:
            table = table[self.config["pad_token_id"] + 1 :]
        words = self.op(
            "Gather", [self.const("words", self.weights["embeddings.word_embeddings.weight"]), "tokens"], "word"
        )
        zero = self.const("zero_1", np.array([0]))
        length = self.op("Shape", ["tokens"], "length", start=1, end=2)
        position = self.op("Slice", [self.const("positions", table), zero, length, zero], "position")
        return self.norm("embeddings.LayerNorm", self.op("Add", [words, position], "embedded"))

    def layer(self, at: str, x: str, hide: str) -> str:
        width = self.hidden // self.heads
        query, key, value = self.linear(x, [f"{at}.attention.self.{part}" for part in ("query", "key", "value")])
        query, key = self.split(query, [0, 2, 1, 3], width), self.split(key, [0, 2, 3, 1], width)
        score = self.op("Add", [self.op("MatMul", [query, key], f"{at}.qk"), hide], f"{at}.score")
        weight = self.op("Softmax", [score], f"{at}.weight", axis=-1)
        seen = self.op("MatMul", [weight, self.split(value, [0, 2, 1, 3], width)], f"{at}.seen")
        seen = self.op("Transpose", [seen], f"{at}.seen_t", perm=[0, 2, 1, 3])
        seen = self.op("Reshape", [seen, self.const("flat", np.array([0, 0, self.hidden]))], f"{at}.context")
        (said,) = self.linear(seen, [f"{at}.attention.output.dense"])
        x = self.norm(f"{at}.attention.output.LayerNorm", self.op("Add", [said, x], f"{at}.after_attention"))
        (inner,) = self.linear(x, [f"{at}.intermediate.dense"])
        (outer,) = self.linear(self.op("Gelu", [inner], f"{at}.gelu", MICROSOFT), [f"{at}.output.dense"])
        return self.norm(f"{at}.output.LayerNorm", self.op("Add", [outer, x], f"{at}.after_dense"))

    def linear(self, x: str, names: Sequence[str]) -> list[str]:
        """x W + b for each name; int8 looks at the range of x once for all of them."""
        ranged = [f"{names[0]}.{part}" for part in ("x", "x_scale", "x_zero")]
        if self.bits is not None:
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], ranged))
        out = []
        for name in names:
            weight, bias = self.weights[f"{name}.weight"].T, self.weights[f"{name}.bias"]
            if name.endswith("self.query"):  # 1 / sqrt(d) of the scores, taken where it costs nothing
                shrink = np.float32(1 / math.sqrt(self.hidden // self.heads))
                weight, bias = weight * shrink, bias * shrink
            shift = self.const(f"{name}.bias", bias)
            if self.bits is None:
                product = self.op("MatMul", [x, self.const(f"{name}.weight", weight)], f"{name}.product")
                out.append(self.op("Add", [product, shift], name))
                continue
            small, scale = quantised(weight, self.bits)
            x8, x_scale, x_zero = ranged
            inputs = [x8, self.const(f"{name}.weight", small), x_scale, self.const(f"{name}.scale", scale), x_zero]
            inputs += [self.const("zero_i8", np.array(0, np.int8)), shift]
            out.append(self.op("MatMulIntegerToFloat", inputs, name, MICROSOFT))
        return out

    def norm(self, name: str, x: str) -> str:
        """Layer norm over the last axis."""
        scale, shift = (self.const(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.op("LayerNormalization", [x, scale, shift], name, axis=-1, epsilon=self.config["layer_norm_eps"])

    def split(self, x: str, order: Sequence[int], width: int) -> str:
        """(b, s, h) as (b, s, n, d), then its axes in `order`."""
        x = self.op("Reshape", [x, self.const("heads", np.array([0, 0, self.heads, width]))], f"{x}.heads")
        return self.op("Transpose", [x], f"{x}_t", perm=list(order))

    def const(self, name: str, value: npt.NDArray[Any]) -> str:
        """A constant's name, held once."""
        self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def op(self, kind: str, inputs: Sequence[str], name: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output of its own name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name
