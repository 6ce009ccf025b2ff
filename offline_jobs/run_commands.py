"""The commands that run others, or that say on stdout what they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from offline_jobs.pipeline import options_of, run_pipeline
from offline_jobs.publish import PublishSettings, run_publish
from offline_jobs.steps import STEPS
from offline_jobs.weights import SOURCES, fetch_weights
from service.bundle.store import active_version
from service.errors import InputError


def run_all(
    data: Path, work: Path, bundles: Path, until: str | None, jobs: int, fetch_images: bool, set: Sequence[str]
) -> None:
    """Run every step, or those up to `until`, and print the version that is active then."""
    if jobs < 0:
        raise InputError(
            f"{jobs} steps at once", where="--jobs", todo="Use 1 or more, or 0 for as many as there are cores"
        )
    commands = [step.command for step in STEPS]
    if until is not None and until not in commands:
        raise InputError(f"there is no step {until!r}", where="--until", todo=f"Steps are {', '.join(commands)}")
    options = options_of(set)
    check_options(options)
    asked = ("fetch-images",) if fetch_images or until == "fetch-images" else ()
    run_pipeline(options, data, work, bundles, at_most=jobs, asked=asked, until=until)
    if until in (None, "publish"):
        print(active_version(bundles))


def run_demo_command(
    data: Path | None,
    work: Path | None,
    bundles: Path | None,
    rest_port: int,
    grpc_port: int,
    once: bool,
    set: Sequence[str],
) -> None:
    """Run every step, serve, and show three requests."""
    from offline_jobs.demo import Places, run_demo

    options = options_of(set)
    check_options(options, "generate")
    places = Places.of(data, work, bundles)
    run_demo(options, places, rest_port=rest_port, grpc_port=grpc_port, once=once)


def publish_and_say(settings: PublishSettings, work: Path, bundles: Path) -> None:
    """Publish, and print the version."""
    print(run_publish(settings, work, bundles))


def fetch_and_say(name: Sequence[str]) -> None:
    """Fetch weights, and print their folders."""
    for wanted in name or SOURCES:
        print(fetch_weights(wanted))


def check_options(options: Mapping[str, Sequence[str]], *further: str) -> None:
    """Refuse `--set` for a command or a flag that is not there, before hours are spent on the steps before it.

    Raises InputError for an unknown command; a wrong flag ends the process with the command's own usage, status 2.
    """
    if not options:
        return
    from offline_jobs.__main__ import build_app
    from training.__main__ import app as training_app

    groups: dict[str, Any] = {
        "offline_jobs": typer.main.get_command(build_app()),
        "training": typer.main.get_command(training_app),
    }
    homes = {step.command: step.module for step in STEPS} | dict.fromkeys(further, "offline_jobs")
    reads_data = {step.command for step in STEPS if step.reads_data}
    for command, flags in options.items():
        if command not in homes:
            raise InputError(f"there is no step {command!r}", where="--set", todo=f"Steps are {', '.join(homes)}")
        required = ["--data", "."] if command in reads_data else []
        groups[homes[command]].commands[command].make_context(command, [*required, *flags])  # parses, runs nothing
