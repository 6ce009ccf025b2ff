"""open_clip's ViT-B/32 image tower (Radford et al. 2021), 512-d: weights by path, hub name or open_clip's own tag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from offline_jobs.array_types import FloatArray
from offline_jobs.compute import DTYPES
from offline_jobs.torchvision_cpu import mend_torchvision
from service.errors import StageError

WIDTH = 512
SIDE = 224
ARCHITECTURE = "ViT-B-32"
HUB_FILE = "open_clip_model.safetensors"

Pixels = npt.NDArray[np.float32]
"""float32 (3, 224, 224), normalised as open_clip does it."""


class ClipEncoder:
    """The image tower in fp32, bf16 or fp16, on a CPU or CUDA. An ImageEncoder."""

    width = WIDTH

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
        """See ImageEncoder; open_clip's own preprocessing."""
        return self.transform(image).numpy()

    def encode(self, pixels: Pixels) -> FloatArray:
        """See ImageEncoder."""
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).to(device=self.device, dtype=self.dtype)
            vectors: FloatArray = self.tower(batch).float().cpu().numpy()
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
