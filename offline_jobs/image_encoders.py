"""The offline image encoders: ImageNet's networks before their classes, through onnxruntime in fp32.

| setting | network | features |
|---|---|---|
| `efficientnet-lite0` | EfficientNet-Lite0 (Tan and Le 2019) | 1280, projected to 512 |
| `mobilenetv2` | MobileNetV2 (Sandler et al. 2018) | 1280, projected to 512 |
| `resnet18` | ResNet-18 (He et al. 2015) | 512, likewise |

All take the whole picture, fitted into 224 x 224 and padded with white. All give the square root of their features,
which `image_projection` turns into the 512 numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from offline_jobs.array_types import FloatArray
from offline_jobs.inverted_residuals import EFFICIENTNET_LITE0, MOBILENET_V2, InvertedResiduals, build_onnx, read_state
from service.errors import StageError
from service.image_bytes import fitted

WIDTH = 512
"""Length of the vectors that every encoder gives in the end: what the fusion takes."""
SIDE = 224
RESNET_FILE = "resnet18.onnx"

Pixels = npt.NDArray[np.uint8]
"""uint8 (side, side, 3) RGB."""

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


class ImageEncoder(Protocol):
    """Turns RGB images into vectors on one core; both methods may be called from many threads at once."""

    width: int
    """Length of a vector."""

    def prepare(self, image: Image.Image) -> npt.NDArray[Any]:
        """One RGB image to the array that `encode` takes stacked."""
        ...

    def encode(self, pixels: npt.NDArray[Any]) -> FloatArray:
        """(batch, ...) of what `prepare` gives to float32 (batch, width), not normalised."""
        ...


class OnnxEncoder:
    """An ONNX model on one thread a call; on CUDA where onnxruntime was built for it. An ImageEncoder.

    The features are means of ReLU outputs, so none is below zero; their roots are what `encode` gives.
    """

    def __init__(self, model: bytes | Path, width: int, device: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
        able = onnxruntime.get_available_providers()
        providers = [p for p in wanted if p in able] + ["CPUExecutionProvider"]
        given = model if isinstance(model, bytes) else str(model)
        try:
            self.session = onnxruntime.InferenceSession(given, options, providers=providers)
        except (RuntimeError, ValueError, onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile) as error:
            raise StageError(
                f"the image encoder cannot be loaded: {error}",
                where="its weights" if isinstance(model, bytes) else str(model),
                todo="Run `plotpointe-jobs weights` again, or give the weights' folder",
            ) from error
        self.width = width
        self.input = self.session.get_inputs()[0]

    def prepare(self, image: Image.Image) -> Pixels:
        """See ImageEncoder. The whole product stays in view: fitted into the square, the rest white."""
        return np.asarray(fitted(image, SIDE))

    def encode(self, pixels: Pixels) -> FloatArray:
        """See ImageEncoder; uint8 (batch, side, side, 3)."""
        given: npt.NDArray[Any] = pixels if self.input.type == "tensor(uint8)" else imagenet_pixels(pixels)
        features = np.asarray(self.session.run(None, {self.input.name: given})[0], np.float32)
        return np.sqrt(np.maximum(features, 0))


def imagenet_pixels(pixels: Pixels) -> FloatArray:
    """uint8 (batch, side, side, 3) to float32 (batch, 3, side, side), normalised as torchvision's models take it."""
    scale, shift = 1 / (255 * IMAGENET_STD), IMAGENET_MEAN / IMAGENET_STD
    turned = pixels.transpose(0, 3, 1, 2)
    out = np.multiply(turned, scale[:, None, None], dtype=np.float32, order="C")
    out -= shift[:, None, None]
    return out


@dataclass(frozen=True)
class OfflineEncoder:
    """An encoder that needs no model hub: its weights are in a package."""

    weights: str
    """Its name in `offline_jobs.weights.SOURCES`, and in `encoder.json`."""
    features: int
    """Numbers that the network gives an image."""
    open: Callable[[Path], bytes | Path]
    """The folder of the weights to an ONNX model."""
    takes_bytes: bool
    """Whether the model's input is the pixels as they are, uint8 (batch, side, side, 3), so that it can be served."""

    def load(self, folder: Path, device: str) -> OnnxEncoder:
        """The encoder with the weights of `folder`. Raises StageError where they are not what they must be."""
        return OnnxEncoder(self.open(folder), self.features, device)


def _built(network: InvertedResiduals) -> Callable[[Path], bytes]:
    return lambda folder: build_onnx(read_state(folder / network.file, network.sha256), network, SIDE)


OFFLINE: Mapping[str, OfflineEncoder] = {
    "efficientnet-lite0": OfflineEncoder("efficientnet-lite0-imagenet", 1280, _built(EFFICIENTNET_LITE0), True),
    "mobilenetv2": OfflineEncoder("mobilenetv2-imagenet", 1280, _built(MOBILENET_V2), True),
    "resnet18": OfflineEncoder("resnet18-imagenet", 512, lambda folder: folder / RESNET_FILE, False),
}
