"""Run one ONNX model of the bundle. The only module of the hot path that knows onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from service.bundle.native import open_session
from service.errors import ModelError

FAILURES = (
    onnxruntime_errors.EPFail,
    onnxruntime_errors.EngineError,
    onnxruntime_errors.Fail,
    onnxruntime_errors.InvalidArgument,
    onnxruntime_errors.NotImplemented,
    onnxruntime_errors.RuntimeException,
)
"""What onnxruntime raises from a call; the other classes it has are about loading a model."""


class OnnxModel:
    """An ONNX model in one thread of onnxruntime."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._session = open_session(path)

    def run(self, output: str, feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """One output of the model for `feeds`. Raises ModelError where the call fails or a value is not finite."""
        return self.run_all((output,), feeds)[0]

    def run_all(
        self, outputs: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[npt.NDArray[np.float32], ...]:
        """Several outputs of one call, likewise."""
        try:
            found: list[npt.NDArray[np.float32]] = self._session.run(list(outputs), dict(feeds))
        except FAILURES as error:
            raise ModelError(str(error).strip(), where=self._name) from error
        for output, values in zip(outputs, found, strict=True):
            if not np.isfinite(values).all():
                raise ModelError(f"output {output!r} is not finite", where=self._name)
        return tuple(found)
