"""The process that serves computes on one thread."""

from __future__ import annotations

import os
import subprocess
import sys

ASK = """
import service.__main__
import faiss, numpy, threadpoolctl
numpy.ones((9, 9)) @ numpy.ones((9, 9))
print(sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()}))
"""


def asked(**variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    run = subprocess.run(
        [sys.executable, "-c", ASK], env=environment | variables, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_every_library_of_the_process_has_one_thread() -> None:
    assert asked() == "[1]"


def test_who_sets_the_variables_decides() -> None:
    assert asked(OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2") != "[1]"
