"""What FAISS and onnxruntime themselves say of a bundle's files, held against the manifest."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import onnxruntime

from service.bundle.manifest import FaissIndex, OnlineEncoders, OnnxModel
from service.bundle.signatures import (
    IMAGE_ENCODER,
    TEXT_ENCODER,
    Signature,
    image_encoder_signature,
    text_encoder_signature,
)
from service.errors import BundleForeignError

ONNX_TYPES = {"float32": "tensor(float)", "int32": "tensor(int32)", "uint8": "tensor(uint8)"}
"""A tensor's dtype in the manifest -> what onnxruntime calls it."""
AGAIN = "Publish the bundle again with this version of plotpointe"


def read_index(path: Path) -> Any:
    """Open a FAISS index; an HNSW graph stays memory-mapped, so that workers share its pages."""
    # IO_FLAG_MMAP_IFC maps the vectors and the links; plain IO_FLAG_MMAP would keep the links private.
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def check_index(path: Path, described: FaissIndex, num_items: int, dim: int) -> None:
    """Raise BundleForeignError unless the index file is what the manifest and the item table say."""
    try:
        index = read_index(path)
    except RuntimeError as error:
        raise BundleForeignError(
            f"FAISS cannot read the index ({_first_line(error)})", where=str(path), todo=AGAIN
        ) from error
    actual = (index.d, index.ntotal, index.metric_type)
    expected = (dim, num_items, faiss.METRIC_INNER_PRODUCT)
    if actual != expected or (described.dim, described.ntotal) != (dim, num_items):
        raise BundleForeignError(
            f"the index has (d, ntotal, metric) = {actual}, the item table needs {expected}",
            where=str(path),
            todo=AGAIN,
        )


def check_models(directory: Path, described: Mapping[str, OnnxModel], needed: Mapping[str, Signature]) -> None:
    """Raise BundleForeignError unless each model has exactly the tensors of its signature."""
    if described.keys() != needed.keys():
        raise BundleForeignError(
            f"the bundle has the models {sorted(described)}, this service needs {sorted(needed)}",
            where=str(directory),
            todo=AGAIN,
        )
    for name, signature in needed.items():
        check_tensors(directory / f"{name}.onnx", signature)


def check_encoders(directory: Path, described: OnlineEncoders) -> None:
    """Raise BundleForeignError unless each online encoder that there is has exactly the tensors of its signature."""
    if described.text is not None:
        check_tensors(directory / f"{TEXT_ENCODER}.onnx", text_encoder_signature())
    if described.image is not None:
        check_tensors(directory / f"{IMAGE_ENCODER}.onnx", image_encoder_signature(described.image.side))
    _give_back_memory()


def check_tensors(path: Path, signature: Signature) -> None:
    """Raise BundleForeignError unless an ONNX file can be loaded and has exactly these inputs and outputs."""
    session = open_session(path)
    for kind, actual, expected in zip(
        ("input", "output"), (session.get_inputs(), session.get_outputs()), signature, strict=True
    ):
        found = {tensor.name: (tensor.type, _fixed(tensor.shape)) for tensor in actual}
        wanted = {key: (ONNX_TYPES[spec.dtype], _fixed(spec.shape)) for key, spec in expected.items()}
        if found != wanted:
            raise BundleForeignError(f"{kind}s are {found}, the service needs {wanted}", where=str(path), todo=AGAIN)


def _give_back_memory() -> None:
    """Return what is free to the system: a large model that was loaded and dropped leaves some 40 MB a worker else."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)


def open_session(path: Path) -> Any:
    """An onnxruntime session on one thread: the service scales by processes, not by threads a call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[p for p in PROVIDERS if p in onnxruntime.get_available_providers()]
        )
    except Exception as error:
        raise BundleForeignError(
            f"onnxruntime cannot load the model ({_first_line(error)})", where=str(path), todo=AGAIN
        ) from error


PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def _fixed(shape: tuple[int | str, ...] | list[Any]) -> tuple[int | None, ...]:
    """A shape with every free dimension, whatever its name, as None."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
