"""Ray on this machine alone, for as long as a search runs: no dashboard, nothing sent home, nothing left behind."""

from __future__ import annotations

import logging
import os
import resource
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import InputError

OBJECT_STORE_BYTES = 100 * 2**20
"""Shared memory for what trials are given; their data they read themselves."""

PREFIX = "pp-ray-"
"""Of the folders of Ray's own files; the process follows."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
}
"""Read by Ray when it is imported or started; what the person has set himself stays."""


@contextmanager
def ray_session(processes: int) -> Iterator[Path]:
    """A folder for Ray's own files, and Ray with room for `processes` trials; one that is running already is used.

    Everything ends with the block; where this process is killed the kernel ends Ray, and the next session removes what
    it left.
    """
    for name, value in (ENVIRONMENT | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}).items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        todo = "pip install 'plotpointe[distributed]'"
        raise InputError("a search needs Ray, which is not installed", where="tune", todo=todo) from error
    _remove_leftovers()
    # Short: Ray's sockets live below it, in 107 characters.
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    mine = not ray.is_initialized()
    try:
        if mine:
            ray.init(
                address="local",
                num_cpus=processes,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
        yield folder
    finally:
        if mine:
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers() -> None:
    """Remove the folders of sessions whose process is no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def bound_memory(mib: int) -> None:
    """Let this process allocate `mib` MiB more than it has: beyond, allocations fail with an error it can report.

    A process runs one trial after another; the first call counts for all of them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        return
    status = Path("/proc/self/status").read_text().splitlines()
    held_kib = next(int(line.split()[1]) for line in status if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (held_kib * 1024 + mib * 2**20, hard))
