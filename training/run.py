"""A run: from a folder of data to a fitted, judged and published model, in one folder that later commands read.

<run>/run.json    preset, seed and options
<run>/work/       one folder a finished stage
<run>/bundles/    the published bundle
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from service.errors import DataError
from training.files import write_whole
from training.presets import preset_options

RUN = "run.json"


def run_preset(data: Path, preset: str, out: Path, seed: int, set: Sequence[str]) -> None:
    """Run every step of the pipeline with a preset's options; what is done already is skipped.

    Raises InputError for an unknown preset, DataError where there is no such data, and SystemExit with the pipeline's
    status where a step fails: its own message has been printed then.
    """
    options = [*preset_options(preset, data, seed), *set]
    if not data.exists():
        raise DataError("no such file or folder", where=str(data), todo="Check --data")
    folders = ["--data", str(data), "--work", str(work_of(out)), "--bundles", str(out / "bundles")]
    flags = [part for option in options for part in ("--set", option)]
    described = {"preset": preset, "seed": seed, "options": options}
    write_whole(out / RUN, json.dumps(described, indent=1))
    # The pipeline knows training and not the other way round, so it is run and not imported.
    command = [sys.executable, "-m", "offline_jobs", "run", *folders, *flags]
    with subprocess.Popen(command) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # the terminal has told the pipeline too: it ends its steps and then itself
            status = process.wait()
    if status:
        raise SystemExit(status)


def work_of(run: Path) -> Path:
    """The run's work folder."""
    return run / "work"


def dataset_of(work: Path) -> str:
    """What a work folder's data is called: the preset of its run, or else the folder that holds it."""
    home = work.resolve().parent
    described = home / RUN
    return str(json.loads(described.read_text())["preset"]) if described.is_file() else home.name
