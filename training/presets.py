"""Presets: what `plotpointe-train fit` is told for data that is known, chosen on validation (see EXPERIMENTS.md).

Each is a list of `COMMAND.FLAG=VALUE` for the steps of the pipeline; `{data}` is the shop's folder.
"""

from __future__ import annotations

from pathlib import Path

from service.errors import InputError

PAPERS = (
    "split.kind=given",
    "graph.given={data}/modal_knn10.npz",
    "fit-model.protocol-train-only=true",
    "fit-model.protocol-labels=inner",
    "fit-model.width=128",
    "fit-model.members=2",
    "fit-model.spectral=256",
    "fit-model.fixed-gains=true",
    "fit-model.hidden-share=0.3",
    "fit-model.identity-dropout=0",
    "fit-model.temperature=0.2",
    "fit-model.max-epochs=60",
    "fit-model.judge-every=5",
    "fit-model.patience=15",
    "fit-model.history-length=100",
    "fit-model.rerank-max-users=20000",
)
"""The splits of the papers: their nearest items, fitted on the training split alone to the end."""

PRESETS: dict[str, tuple[str, ...]] = {
    "amazon-baby": PAPERS,
    "amazon-sports": PAPERS,
    "fashion-week": (
        "fit-model.protocol-earlier-days=2",
        "fit-model.linear-ridge=100",
        "fit-model.linear-text=0.3",
        "fit-model.linear-image=0.1",
        "fit-model.linear-text-exponent=0.5",
        "fit-model.patience=5",
    ),
    "amazon-electronics": ("embed-text.fields=title",),
}

SEEDED = ("fuse.seed", "fit-model.seed", "fit-model.rerank-seed", "evaluate.seed", "export.seed", "index.seed")
"""What `--seed` sets."""


def preset_options(name: str, data: Path, seed: int) -> list[str]:
    """The pipeline's options of a preset. Raises InputError where there is none of that name."""
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}", where="--preset", todo=f"There are {', '.join(PRESETS)}")
    return [option.format(data=data.resolve()) for option in PRESETS[name]] + [f"{flag}={seed}" for flag in SEEDED]
