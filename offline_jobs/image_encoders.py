"""The two image encoders, both 512-d: open_clip's ViT-B/32 where weights are given, else ImageNet's ResNet-18.

| encoder | input | computed by |
|---|---|---|
| `ViT-B-32` (Radford et al. 2021, open_clip) | 224 x 224, open_clip's own preprocessing | torch |
| `resnet18-imagenet` (He et al. 2015), before its classes | 224 x 224, fitted, padded with white | onnxruntime |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from offline_jobs.compute import DTYPES
from offline_jobs.torchvision_cpu import mend_torchvision
from service.errors import StageError

WIDTH = 512
SIDE = 224
ARCHITECTURE = "ViT-B-32"
RESNET = "resnet18-imagenet"
RESNET_FILE = "resnet18.onnx"
HUB_FILE = "open_clip_model.safetensors"

Pixels = npt.NDArray[np.float32]

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


class ImageEncoder(Protocol):
    """Turns RGB images into vectors on one core; both methods may be called from many threads at once."""

    def prepare(self, image: Image.Image) -> Pixels:
        """One RGB image to float32 (3, 224, 224), normalised as the encoder was trained."""
        ...

    def encode(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """float32 (batch, 3, 224, 224) to float32 (batch, 512), not normalised."""
        ...


class ResNetEncoder:
    """ResNet-18's 512 features before its class layer, through onnxruntime in fp32."""

    def __init__(self, folder: Path, device: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
        able = onnxruntime.get_available_providers()
        providers = [p for p in wanted if p in able] + ["CPUExecutionProvider"]
        path = folder / RESNET_FILE
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except (RuntimeError, ValueError, onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile) as error:
            raise StageError(
                f"the image encoder cannot be loaded: {error}",
                where=str(path),
                todo=f"Give a folder with {RESNET_FILE}",
            ) from error
        self.input = self.session.get_inputs()[0].name

    def prepare(self, image: Image.Image) -> Pixels:
        """See ImageEncoder. The whole product stays in view: fitted into the square, the rest white."""
        square = ImageOps.pad(image, (SIDE, SIDE), Image.Resampling.BILINEAR, color=(255, 255, 255))
        scaled = np.asarray(square, np.float32) / 255
        return np.ascontiguousarray(((scaled - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1))

    def encode(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """See ImageEncoder."""
        return np.asarray(self.session.run(None, {self.input: pixels})[0], np.float32)


class ClipEncoder:
    """open_clip's ViT-B/32 image tower."""

    def __init__(self, weights: ClipWeights, device: str, precision: str) -> None:
        mend_torchvision()
        import open_clip

        try:
            model, _, transform = open_clip.create_model_and_transforms(
                weights.architecture, pretrained=weights.pretrained, require_pretrained=True
            )
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            raise StageError(
                f"open_clip cannot load these weights: {error}",
                where=str(weights.path),
                todo=f"They must be a whole open_clip state of {ARCHITECTURE} in safetensors",
            ) from error
        if model.visual.output_dim != WIDTH:
            raise StageError(
                f"this model gives {model.visual.output_dim} numbers an image, the fusion takes {WIDTH}",
                where=weights.pretrained or weights.architecture,
                todo=f"Choose weights of {ARCHITECTURE}",
            )
        self.tower = model.visual.to(device=device, dtype=DTYPES[precision]).eval()
        self.transform: Callable[[Image.Image], torch.Tensor] = transform
        self.device, self.dtype = device, DTYPES[precision]

    def prepare(self, image: Image.Image) -> Pixels:
        """See ImageEncoder."""
        return self.transform(image).numpy()

    def encode(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """See ImageEncoder."""
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).to(device=self.device, dtype=self.dtype)
            vectors: npt.NDArray[np.float32] = self.tower(batch).float().cpu().numpy()
        return vectors


class ClipWeights:
    """Where ViT-B/32's weights are: resolved from a path, a hub name, or one of open_clip's own tags.

    `architecture` and `pretrained` are what open_clip's factory takes, `path` is the file on disk.
    """

    def __init__(self, given: str) -> None:
        self.given, self.architecture = given, ARCHITECTURE
        self.pretrained: str | None = given
        self.source = f"open_clip {given}"
        if Path(given).is_file():
            if Path(given).suffix != ".safetensors":
                raise StageError("only safetensors weights are read", where=given, todo="Convert the file first")
            self.path, self.source = Path(given), "local file"
            return
        try:
            self.path = self._from_hub(given) if "/" in given else self._from_tag(given)
        except (OSError, ValueError, RuntimeError) as error:
            raise StageError(
                f"neither a file, nor a hub name, nor a tag of open_clip that can be reached ({error})",
                where=f"clip_weights {given}",
                todo="Give a .safetensors file's path, or leave it out for the offline encoder",
            ) from error

    def _from_hub(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(name, HUB_FILE))
        self.architecture, self.pretrained, self.source = f"hf-hub:{name}", None, f"hub {name}"
        return path

    def _from_tag(self, tag: str) -> Path:
        mend_torchvision()
        import open_clip

        config = open_clip.get_pretrained_cfg(ARCHITECTURE, tag)
        if not config:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(ARCHITECTURE))
            raise ValueError(f"open_clip's tags are {tags}")
        if config.get("quick_gelu"):
            self.architecture = f"{ARCHITECTURE}-quickgelu"
        return Path(open_clip.download_pretrained(config))
