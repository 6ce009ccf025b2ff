"""`plotpointe-train`: a run from a folder of data (`fit`), what it answers (`topk`, `score`), and each stage alone."""

from __future__ import annotations

from pathlib import Path

from training import cli
from training.evaluate import EvaluateSettings
from training.evaluate_stage import run_evaluate
from training.export_stage import ExportSettings, run_export
from training.extended.multi_task_export import run_multi_task
from training.extended.multi_task_fit import MultiTaskSettings
from training.extended.off_policy import OffPolicySettings, run_off_policy
from training.extended.sasrec_fit import SasRecSettings
from training.extended.sasrec_stage import run_sasrec
from training.fit_reranker import RerankSettings
from training.fit_settings import FitSettings
from training.linear import LinearSettings
from training.presets import PRESETS
from training.report.command import ReportSettings, run_report
from training.run import run_preset
from training.stages import ProtocolSettings, RefitSettings, run_fit, run_refit
from training.topk import run_score, run_topk
from training.tracking.settings import TrackingSettings
from training.tuning.search import TuneSettings
from training.tuning.select import SelectSettings, run_select
from training.tuning.tune_stage import run_tune

app = cli.new_app("Fit, judge and export models. Whatever is done already is skipped.")

cli.add_command(
    app,
    "fit",
    run_preset,
    text="From a folder of data to a judged and published model in a run folder, with the settings of a preset.",
    settings={},
    flags={
        "data": (Path, ..., "Folder with the shop's files."),
        "preset": (str, ..., f"One of {', '.join(PRESETS)}."),
        "out": (Path, ..., "The run's folder; what is done there already is skipped."),
        "seed": (int, 0, "Seeds everything that is drawn."),
        "set": (list[str], [], "COMMAND.FLAG=VALUE beside the preset's, such as fit-model.max-epochs=10; repeatable."),
    },
)
cli.add_command(
    app,
    "topk",
    run_topk,
    text="Write the best items of users as Parquet: user_id, item_id, rank, score.",
    settings={},
    flags={
        "run": (Path, ..., "Folder that `fit` made."),
        "users": (str, "all", "File with user ids (one a line, or .csv or .parquet with user_id), or `all`."),
        "items": (Path | None, None, "Rank only the items of this file (item_id)."),
        "k": (int, 20, "Items a user."),
        "out": (Path, ..., "The Parquet file to write."),
    },
)
cli.add_command(
    app,
    "score",
    run_score,
    text="Write the score of each user and item of a file as Parquet: user_id, item_id, score.",
    settings={},
    flags={
        "run": (Path, ..., "Folder that `fit` made."),
        "pairs": (Path, ..., "File with user_id and item_id (.csv or .parquet)."),
        "out": (Path, ..., "The Parquet file to write."),
    },
)
cli.add_command(
    app,
    "fit-model",
    run_fit,
    text="Fit the graph-attention network and the re-ranker; the validation split chooses.",
    settings={
        "": FitSettings,
        "linear": LinearSettings,
        "rerank": RerankSettings,
        "protocol": ProtocolSettings,
        "track": TrackingSettings,
    },
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

cli.add_command(
    app,
    "report",
    run_report,
    text="Write one page about the judged models of a run: ladder, cold and rare, learning, cost, attention.",
    settings={"": ReportSettings},
    flags={
        "run": (Path, ..., "Run folder; its results/ are shown."),
        "out": (Path, Path("report.html"), "Page to write."),
    },
)
cli.add_command(
    app,
    "tune",
    run_tune,
    text="Search the settings of the fit, judged on the validation split; run again to go on.",
    settings={"": TuneSettings, "fit": FitSettings, "linear": LinearSettings, "track": TrackingSettings},
    flags={"work": cli.WORK},
)
cli.add_command(
    app,
    "select",
    run_select,
    text="Choose the winner of a run's results by validation figures alone.",
    settings={"": SelectSettings},
    flags={"run": (Path, ..., "Folder that holds results/.")},
)
cli.add_command(
    app,
    "sasrec",
    run_sasrec,
    text="Fit SASRec, choose its epochs on validation, and judge it on the test split once.",
    settings={"": SasRecSettings},
    flags={"work": cli.WORK, "dataset": (str, ..., "Name of the data in the results.")},
)
cli.add_command(
    app,
    "multi-task",
    run_multi_task,
    text="Fit a click and a ranking head on logged slates, and export them to ONNX.",
    settings={"": MultiTaskSettings},
    flags={
        "log": (Path, ..., "Logged slates (.npz: features, position, click)."),
        "out": (Path, ..., "Folder to write."),
    },
)
cli.add_command(
    app,
    "off-policy",
    run_off_policy,
    text="Learn whom to show what from a log with propensities, and say what to expect of it.",
    settings={"": OffPolicySettings},
    flags={
        "log": (Path, ..., "Parquet: action, propensity, reward; every other column is context."),
        "out": (Path, ..., "Folder for policy.safetensors and report.json."),
    },
)


def main() -> None:
    """Entry point of `plotpointe-train`."""
    cli.main(app)


if __name__ == "__main__":
    main()
