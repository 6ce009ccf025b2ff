"""The backends that turn a batch of tokens into vectors: torch, and onnxruntime in fp32 and int8.

Every backend runs the same weights on the same batches. Each thread takes whole batches on one core: no thread waits
for another inside a batch, and the vectors are the same for any number of threads.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch

from offline_jobs.compute import DTYPES, Device, Precision, resolve_compute
from offline_jobs.embedding_shards import EncodeShard, Status, Vectors, normalise
from offline_jobs.text_graph import build_graph, why_not
from offline_jobs.text_model import TextTokenizer, TokenBatch
from offline_jobs.torchvision_cpu import mend_torchvision
from service.errors import InputError, StageError

Backend = Literal["auto", "torch", "onnx-fp32", "onnx-int8"]
BATCH_TOKENS = {"onnx": 768, "cpu": 1024, "cuda": 65_536}
"""Tokens at once by what computes; on a CPU what its caches hold (docs/ENCODERS.md)."""


@dataclass(frozen=True)
class Compute:
    """What the settings came to on this machine: the same three give the same vectors."""

    backend: str
    """torch or onnx."""
    device: str
    precision: str
    """fp32, bf16, fp16, int8, or int8-7bit: weights of 7 bits where a CPU's 8-bit sums would overflow."""

    @property
    def batch_tokens(self) -> int:
        """Tokens a batch, where no setting says."""
        return BATCH_TOKENS[self.backend if self.backend == "onnx" else self.device]


class TextEncoder(Protocol):
    """A loaded model. May be called from several threads at once."""

    width: int

    def __call__(self, batch: TokenBatch) -> Vectors:
        """Unit vectors, float32 (b, width), in the batch's order."""
        ...


def resolve_backend(backend: Backend, folder: Path, device: Device, precision: Precision) -> Compute:
    """What `auto` comes to: torch on CUDA (fp16); on a CPU onnx-int8 for a model that has a graph, else torch.

    `precision` is torch's: asking for one is asking for torch. Raises InputError where the settings contradict one
    another, StageError where the model has no graph for the backend that is asked for.
    """
    on, numbers = resolve_compute(device, precision)
    reason = why_not(folder)
    if backend == "auto":
        backend = "onnx-int8" if on == "cpu" and precision == "auto" and reason is None else "torch"
    if backend == "torch":
        return Compute("torch", on, numbers)
    if precision != "auto" or device == "cuda":
        raise InputError(
            f"{backend} has a precision of its own and runs on the CPU",
            where="backend",
            todo="Leave precision at auto and device at auto or cpu, or use backend=torch",
        )
    if reason is not None:
        raise StageError(f"the model has no graph for {backend}: {reason}", where=str(folder), todo="Use backend=torch")
    if backend == "onnx-fp32":
        return Compute("onnx", "cpu", "fp32")
    return Compute("onnx", "cpu", "int8" if _sums_are_exact() else "int8-7bit")


def _sums_are_exact() -> bool:
    """Whether products of 8-bit numbers add up without overflow: not on x86 without VNNI, whose sums have 16 bits."""
    able = torch.cpu.get_capabilities()
    return platform.machine() not in {"x86_64", "AMD64"} or bool(able.get("avx512_vnni") or able.get("avx_vnni"))


def load_encoder(folder: Path, compute: Compute) -> TextEncoder:
    """The model, ready. Raises StageError where the folder holds none that can be used."""
    return OnnxTextEncoder(folder, compute) if compute.backend == "onnx" else TorchTextEncoder(folder, compute)


class OnnxTextEncoder:
    """onnxruntime on the CPU, one thread a call."""

    def __init__(self, folder: Path, compute: Compute) -> None:
        import onnxruntime

        try:
            bits = 7 if compute.precision == "int8-7bit" else 8
            graph = build_graph(folder, int8=compute.precision != "fp32", weight_bits=bits)
        except (OSError, KeyError, ValueError) as error:
            raise _unusable(folder, error) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.width = int(self._session.get_outputs()[0].shape[1])

    def __call__(self, batch: TokenBatch) -> Vectors:
        """See TextEncoder."""
        (vectors,) = self._session.run(None, {"tokens": batch.tokens, "mask": batch.mask})
        return np.asarray(vectors, np.float32)


class TorchTextEncoder:
    """sentence-transformers' own modules, on the CPU or on CUDA."""

    def __init__(self, folder: Path, compute: Compute) -> None:
        mend_torchvision()
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        kwargs = {"dtype": DTYPES[compute.precision], "use_safetensors": True}
        try:
            model = SentenceTransformer(str(folder), device=compute.device, model_kwargs=kwargs, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise _unusable(folder, error) from error
        self._model = model.eval()
        self._device = compute.device
        self.width = int(model.get_embedding_dimension())

    def __call__(self, batch: TokenBatch) -> Vectors:
        """See TextEncoder."""
        with torch.inference_mode():
            features = {"input_ids": batch.tokens, "attention_mask": batch.mask}
            inputs = {name: torch.from_numpy(part.astype(np.int64)).to(self._device) for name, part in features.items()}
            vectors = self._model(inputs)["sentence_embedding"]
            return normalise(vectors.float().cpu().numpy())


def shard_encoder(
    encoder: TextEncoder,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    pool: ThreadPoolExecutor,
    batch_tokens: int,
) -> EncodeShard:
    """The function that encodes texts[start:stop]: tokens first, then batches of like length, one a thread."""

    def encode(start: int, stop: int, advance: Callable[[int], None]) -> tuple[Vectors, Status]:
        vectors = np.empty((stop - start, encoder.width), np.float32)
        batches = tokenizer.batches(texts[start:stop], batch_tokens)
        for batch, rows in zip(batches, pool.map(encoder, batches), strict=True):
            vectors[batch.rows] = rows
            advance(len(rows))
        return vectors, np.ones(stop - start, np.int8)

    return encode


def _unusable(folder: Path, error: Exception) -> StageError:
    return StageError(
        f"the text model cannot be loaded: {error}",
        where=str(folder),
        todo="It must be a sentence-transformers folder with safetensors weights",
    )
