"""`plotpointe-train`: fit, evaluate, refit and export the models of a work folder."""

from __future__ import annotations

from training import cli
from training.evaluate import EvaluateSettings
from training.export_stage import ExportSettings, run_export
from training.fit_reranker import RerankSettings
from training.fit_settings import FitSettings
from training.linear import LinearSettings
from training.stages import ProtocolSettings, RefitSettings, run_evaluate, run_fit, run_refit

app = cli.new_app("Fit, judge and export models. Every command is a stage of one work folder and skips what is done.")

cli.add_command(
    app,
    "fit",
    run_fit,
    text="Fit the graph-attention network and the re-ranker; the validation split chooses.",
    settings={"": FitSettings, "linear": LinearSettings, "rerank": RerankSettings, "protocol": ProtocolSettings},
    flags={"work": cli.WORK},
)
cli.add_command(
    app,
    "evaluate",
    run_evaluate,
    text="Judge the model on the test split, once, beside popularity, ItemKNN, iALS and EASE.",
    settings={"": EvaluateSettings},
    flags={"work": cli.WORK},
)
cli.add_command(
    app,
    "refit",
    run_refit,
    text="Fit again on every interaction, as `fit` chose: this is what gets published.",
    settings={"": RefitSettings},
    flags={"work": cli.WORK},
)
cli.add_command(
    app,
    "export",
    run_export,
    text="Export the refit to ONNX and hold each model against torch.",
    settings={"": ExportSettings},
    flags={"work": cli.WORK},
)


def main() -> None:
    """Entry point of `plotpointe-train`."""
    cli.main(app)


if __name__ == "__main__":
    main()
