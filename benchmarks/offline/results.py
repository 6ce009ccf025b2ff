"""One line of JSON a measurement: what was measured, when, on what, from which commit. The docs are made of them."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


def record(benchmark: str, figures: Mapping[str, Any], out: Path | None) -> None:
    """Print the line, and append it to `out` where there is one."""
    line = json.dumps({"benchmark": benchmark, **figures, "date": f"{datetime.now(UTC):%Y-%m-%d}", **origin()})
    print(line, flush=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a") as file:
            file.write(line + "\n")


def peak_of_tree(command: Sequence[str]) -> float:
    """Run a command; the largest sum of its own and its children's memory, in MiB, shared pages counted once."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            total = 0
            with contextlib.suppress(psutil.Error):
                for one in (root, *root.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        total += one.memory_full_info().pss
            peak = max(peak, total)
            time.sleep(0.1)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return round(peak / 2**20, 1)


def origin() -> dict[str, Any]:
    """The commit ("+" where files have changed since) and the machine."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() + ("+" if changed.stdout.strip() else ""),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}",
    }
