"""MobileNetV2 and EfficientNet-Lite0 as ONNX graphs, built from their weights; batch normalisation folded in.

Both are one architecture: a strided convolution, blocks of (1x1 expansion, depthwise convolution, 1x1 projection, the
sum with the block's input where the shapes agree), a 1x1 head and the mean over places, which is the feature vector
(Sandler et al. 2018; Tan and Le 2019, whose lite variant has ReLU6 and no squeeze-and-excitation). The state's own
order and shapes say all of it but the strides and the padding, which `InvertedResiduals` holds.

The weights are a torch pickle. They are opened only after their sha256 has been compared with the pinned one, and then
by torch's restricted unpickler (`weights_only=True`: tensors and containers, no code); the same bytes give the same
graph, so no converted copy is kept that could be changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from offline_jobs.array_types import FloatArray
from service.bundle.files import sha256_file
from service.errors import StageError

OPSET = 17
IR_VERSION = 8
FEATURES = 1280


@dataclass(frozen=True)
class InvertedResiduals:
    """What a network of this family is beyond its weights, and which file holds those."""

    file: str
    sha256: str
    strides: Sequence[int]
    """Stride of each block's depthwise convolution."""
    epsilon: float
    """Of the batch normalisation."""
    same_padding: bool
    """TensorFlow's padding, which puts the odd row and column at the end, else half the kernel on each side."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """RGB of 0..1 becomes (RGB - mean) / std."""


MOBILENET_V2 = InvertedResiduals(
    file="mobilenet_v2-b0353104.pth",
    sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    strides=(1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1),
    epsilon=1e-5,
    same_padding=False,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
EFFICIENTNET_LITE0 = InvertedResiduals(
    file="efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    strides=(1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1),
    epsilon=1e-3,
    same_padding=True,
    mean=(0.498, 0.498, 0.498),
    std=(0.502, 0.502, 0.502),
)


@dataclass(frozen=True)
class Convolution:
    """A convolution with its batch normalisation folded in: kernel (out, in / groups, k, k), bias (out,)."""

    kernel: FloatArray
    bias: FloatArray

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved by itself."""
        return bool(self.kernel.shape[1] == 1)


def read_state(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    """The tensors of a torch file, in its order. Raises StageError where its bytes are not the pinned ones."""
    if sha256_file(path) != sha256:
        raise StageError("sha256 is not the pinned one", where=str(path), todo="Run `plotpointe-jobs weights` again")
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def folded(state: dict[str, torch.Tensor], epsilon: float) -> Iterator[Convolution]:
    """Each convolution of the state in order, scaled by the normalisation that follows it (float64, then float32)."""
    arrays = [value.double().numpy() for value in state.values()]
    for at, kernel in enumerate(arrays):
        if kernel.ndim == 4:
            weight, bias, mean, variance = arrays[at + 1 : at + 5]
            scale = weight / np.sqrt(variance + epsilon)
            yield Convolution(
                (kernel * scale[:, None, None, None]).astype(np.float32), (bias - mean * scale).astype(np.float32)
            )


def build_onnx(state: dict[str, torch.Tensor], network: InvertedResiduals, side: int) -> bytes:
    """An ONNX model: `images` uint8 (batch, side, side, 3) RGB to `features` float32 (batch, 1280)."""
    graph = _Graph(network)
    convolutions = folded(state, network.epsilon)
    at = graph.normalised("images")
    at, side = graph.convolution(at, next(convolutions), side, stride=2)
    for stride in network.strides:
        entered, channels = at, -1
        convolution = next(convolutions)
        if not convolution.depthwise:
            channels = convolution.kernel.shape[1]
            at, side = graph.convolution(at, convolution, side)
            convolution = next(convolutions)
        at, side = graph.convolution(at, convolution, side, stride=stride)
        convolution = next(convolutions)
        at, side = graph.convolution(at, convolution, side, activated=False)
        if stride == 1 and channels == len(convolution.kernel):
            at = graph.node("Add", [entered, at])
    at, side = graph.convolution(at, next(convolutions), side)
    graph.node("Flatten", [graph.node("GlobalAveragePool", [at])], name="features")
    return graph.model()


class _Graph:
    """ONNX nodes in the order they are added, each named after its one output."""

    def __init__(self, network: InvertedResiduals) -> None:
        self.network = network
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: FloatArray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], name: str | None = None, **attributes: object) -> str:
        name = name or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def normalised(self, images: str) -> str:
        mean, std = (np.array(value).reshape(1, 3, 1, 1) for value in (self.network.mean, self.network.std))
        turned = self.node("Transpose", [images], perm=[0, 3, 1, 2])
        real = self.node("Cast", [turned], to=TensorProto.FLOAT)
        centred = self.node("Sub", [real, self.constant((mean * 255).astype(np.float32))])
        return self.node("Mul", [centred, self.constant((1 / (std * 255)).astype(np.float32))])

    def convolution(
        self, at: str, convolution: Convolution, side: int, *, stride: int = 1, activated: bool = True
    ) -> tuple[str, int]:
        """Add it and, where `activated`, a ReLU6; returns its output's name and the side of its output."""
        kernel = convolution.kernel.shape[-1]
        out = -(-side // stride)
        pads = [kernel // 2] * 4
        if self.network.same_padding:
            total = max((out - 1) * stride + kernel - side, 0)
            pads = [total // 2] * 2 + [total - total // 2] * 2
        inputs = [at, self.constant(convolution.kernel), self.constant(convolution.bias)]
        at = self.node(
            "Conv",
            inputs,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=pads,
            group=len(convolution.kernel) if convolution.depthwise else 1,
        )
        if activated:
            low, high = self.constant(np.array(0)), self.constant(np.array(6))
            at = self.node("Clip", [at, low, high])
        return at, out

    def model(self) -> bytes:
        images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "side", "side", 3])
        features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", FEATURES])
        graph = helper.make_graph(self.nodes, "inverted_residuals", [images], [features], self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(made)
        return bytes(made.SerializeToString(deterministic=True))
