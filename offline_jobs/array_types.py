"""Names for the arrays that the item stages pass around."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
RowArray = npt.NDArray[np.integer[Any]]
"""Row numbers, whatever their width."""
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
