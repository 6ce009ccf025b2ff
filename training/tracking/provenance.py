"""Which code and which data a run was made of."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from training.stage import read_record, require


@cache
def code_version() -> str:
    """Version of plotpointe, with the commit where the code stands in a git checkout: `0.1.0+7ea49a6` (`-dirty`)."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=7", "--exclude", "*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return version("plotpointe")
    return f"{version('plotpointe')}+{found}"


def data_fingerprint(work: Path) -> str:
    """Digest of the ingested interactions and items: the same as in the manifest of a bundle made of them."""
    record = read_record(require(work, "ingest"))
    assert record is not None  # `require` has seen it
    tables = {name: digest.sha256 for name, digest in record.outputs.items() if name.endswith(".parquet")}
    return hashlib.sha256("".join(f"{name}\0{sha}\n" for name, sha in sorted(tables.items())).encode()).hexdigest()
