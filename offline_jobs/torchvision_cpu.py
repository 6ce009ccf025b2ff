"""Let torchvision import beside a CPU build of torch.

The torchvision wheel of the package index is compiled for CUDA. Beside a CPU build of torch its compiled part
cannot load, and then its Python part fails on import (`operator torchvision::nms does not exist`), which takes
open_clip, transformers and sentence-transformers down with it. None of them calls the two missing operators here:
declaring their schemas is enough. Nothing is declared where the compiled part does load, nor under CUDA, where a
mismatch is a fault that must stay visible.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@functools.cache
def mend_torchvision() -> torch.library.Library | None:
    """Declare the missing operators' schemas; call before the first import of torchvision or of what imports it.

    Returns the library that holds the declarations (they live as long as it does, hence the cache), or None where
    torchvision is absent or needs no help.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or torch.version.cuda is not None:
        return None
    if _compiled_part_loads(Path(spec.origin).parent):
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(operator + SCHEMA)  # type: ignore[no-untyped-call]
    return library


def _compiled_part_loads(package: Path) -> bool:
    for compiled in sorted(package.glob("_C*.so")):
        try:
            torch.ops.load_library(str(compiled))  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return True
    return False
