"""Rows of a staged Parquet file written again in another order, in bounded memory.

The rows are dealt out to files by where they go, RANGE_ROWS positions each; then each of these is sorted alone. So
texts of any size in all never stand in memory together.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

RANGE_ROWS = 1 << 17

Positions = npt.NDArray[np.int64]


class ParquetSink:
    """A Parquet file that grows by data frames of one schema; without any, there is no file."""

    def __init__(self, path: Path, compression_level: int = 1) -> None:
        self._path = path
        self._level = compression_level
        self._writer: pq.ParquetWriter | None = None
        path.unlink(missing_ok=True)

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, frame: pl.DataFrame) -> None:
        """Append the rows."""
        table = frame.to_arrow()
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd", compression_level=self._level)
        self._writer.write_table(table)


def deal_out(source: Path, columns: list[str], target: Positions, scratch: Path) -> list[Path]:
    """Deal the rows of `source` out to Parquet files by their target position, int64 (rows,); -1 leaves a row out.

    Returns a path for every RANGE_ROWS positions, in their order; the file is not there where no row goes to it.
    Each has the named columns and `position` int64, in no order.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    paths = [scratch / f"{n}.parquet" for n in range(int(target.max(initial=-1)) // RANGE_ROWS + 1)]
    sinks = [ParquetSink(path) for path in paths]
    start = 0
    try:
        with pq.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=RANGE_ROWS, columns=columns):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                positions = target[start : start + frame.height]
                start += frame.height
                placed = frame.with_columns(pl.Series("position", positions)).filter(pl.col("position") >= 0)
                for (number,), part in placed.group_by(pl.col("position") // RANGE_ROWS):
                    sinks[int(str(number))].write(part)
    finally:
        for sink in sinks:
            sink.__exit__()
    assert start == len(target), f"{len(target)} positions for {start} rows"
    return paths
