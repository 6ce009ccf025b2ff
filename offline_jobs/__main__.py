"""`plotpointe-jobs`: from a shop's files to a published bundle; each step a command, `run` for all of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from training import cli
from training.cli import Flag

DATA: Flag = (Path, ..., "Folder with the shop's data.")
BUNDLES: Flag = (Path, Path("var/bundles"), "Root folder of the bundles; the service's PLOTPOINTE_BUNDLES.")
SET: Flag = (
    list[str],
    [],
    "COMMAND.FLAG=VALUE: a flag of one step, such as fit-model.max-epochs=10; `plotpointe-jobs COMMAND --help` and "
    "`plotpointe-train COMMAND --help` list them. May be given several times.",
)
JOBS: Flag = (
    int,
    0,
    "Steps that may run side by side; 0: as many as there are cores, 1: one after the other, which takes least memory.",
)
FETCH_IMAGES: Flag = (bool, False, "Download the pictures that the items name by URL, before they are embedded.")
WITH_DATA: Mapping[str, Flag] = {"data": DATA, "work": cli.WORK}


@dataclass(frozen=True)
class Command:
    """One command: its help, and where the function and the settings behind it are."""

    text: str
    run: str
    """`module:function`, loaded when the command is asked for: torch alone takes seconds to import."""
    settings: str | None = None
    """`module:class`, whose fields become flags; the function's first argument."""
    flags: Mapping[str, Flag] = field(default_factory=lambda: {"work": cli.WORK})


COMMANDS: Mapping[str, Command] = {
    "run": Command(
        "Run every step, from the shop's files to a bundle.",
        "offline_jobs.run_commands:run_all",
        flags={
            **WITH_DATA,
            "bundles": BUNDLES,
            "until": (str | None, None, "Run only this step and what it needs; `graph` for data without a model."),
            "jobs": JOBS,
            "fetch_images": FETCH_IMAGES,
            "set": SET,
        },
    ),
    "status": Command(
        "Show what ran, how long, how much memory, what is stale.",
        "offline_jobs.status:print_status",
        flags={
            "work": cli.WORK,
            "json_lines": (bool, False, "Print one JSON object a stage instead of a table."),
            "graph": (Path | None, None, "Draw the stages and their state into this .svg, .png or .pdf file too."),
        },
    ),
    "demo": Command(
        "Run every step, start the service, try three requests.",
        "offline_jobs.run_commands:run_demo_command",
        flags={
            "data": (Path | None, None, "Folder with the shop's data; without it a small shop is generated."),
            "work": (Path | None, None, "Work folder; var/demo/work, or var/NAME/work for data in a folder NAME."),
            "bundles": (Path | None, None, "Root folder of the bundles; `bundles` beside the work folder."),
            "rest_port": (int, 8000, "TCP port of REST on 127.0.0.1; 0 lets the system choose."),
            "grpc_port": (int, 50_051, "TCP port of gRPC on 127.0.0.1; 0 lets the system choose."),
            "once": (bool, False, "Stop after the three requests instead of serving until Ctrl-C."),
            "set": SET,
        },
    ),
    "generate": Command(
        "Make a shop whose shoppers' tastes are known.",
        "offline_jobs.generated_shop:generate_shop",
        "offline_jobs.generated_settings:GeneratedShopSettings",
        {"out": (Path, Path("var/demo/raw"), "Folder to make; it must not hold anything else.")},
    ),
    "ingest": Command(
        "Read and clean a shop's files; set broken rows aside.",
        "offline_jobs.ingest:run_ingest",
        "offline_jobs.ingest:IngestSettings",
        WITH_DATA,
    ),
    "fetch-images": Command(
        "Download the images that items name by URL.",
        "offline_jobs.image_download.stage:run_fetch_images",
        "offline_jobs.image_download.settings:FetchImagesSettings",
    ),
    "split": Command(
        "Divide interactions into training and test.",
        "offline_jobs.split:run_split",
        "offline_jobs.split:SplitSettings",
    ),
    "embed-text": Command(
        "Turn item texts into vectors (384-d).",
        "offline_jobs.text_embeddings:run_text_embeddings",
        "offline_jobs.text_embeddings:TextEmbeddingSettings",
    ),
    "embed-words": Command(
        "Turn the words of item texts into vectors (TF-IDF, 192-d).",
        "offline_jobs.lexical_embeddings:run_lexical_embeddings",
        "offline_jobs.lexical_embeddings:LexicalEmbeddingSettings",
    ),
    "embed-images": Command(
        "Turn item images into vectors (512-d).",
        "offline_jobs.image_embeddings:run_image_embeddings",
        "offline_jobs.image_settings:ImageEmbeddingSettings",
        WITH_DATA,
    ),
    "fuse": Command(
        "Learn one vector (128-d) from text and image.",
        "offline_jobs.fusion:run_fusion",
        "offline_jobs.fusion:FusionSettings",
    ),
    "graph": Command(
        "Link items by text, image and purchases.",
        "offline_jobs.graphs:run_graphs",
        "offline_jobs.graphs:GraphSettings",
    ),
    "index": Command(
        "Build the FAISS index and measure its recall.",
        "offline_jobs.index:run_index",
        "offline_jobs.index:IndexSettings",
    ),
    "publish": Command(
        "Make a verified bundle; activate it unless it is worse.",
        "offline_jobs.run_commands:publish_and_say",
        "offline_jobs.publish:PublishSettings",
        {"work": cli.WORK, "bundles": BUNDLES},
    ),
    "weights": Command(
        "Fetch and verify the pretrained encoders' weights.",
        "offline_jobs.run_commands:fetch_and_say",
        flags={"name": (list[str], [], "Weights to fetch; all where none is named. May be given several times.")},
    ),
}


def build_app(only: str | None = None) -> typer.Typer:
    """The application. With `only`, other commands are listed with their help, but not loaded and so without flags."""
    app = cli.new_app("From a shop's files to a published bundle. What is done already is skipped.")
    for name, command in COMMANDS.items():
        if only is not None and name != only:
            cli.add_command(app, name, _not_loaded, text=command.text, settings={}, flags={})
            continue
        settings = {} if command.settings is None else {"": _load(command.settings)}
        run: Callable[..., None] = _load(command.run)
        cli.add_command(app, name, run, text=command.text, settings=settings, flags=command.flags)
    return app


def main() -> None:
    """Entry point of `plotpointe-jobs`."""
    cli.main(build_app(only=sys.argv[1] if len(sys.argv) > 1 else ""))


def _load(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _not_loaded() -> None:
    raise AssertionError("the command that is asked for is always loaded")


if __name__ == "__main__":
    main()
