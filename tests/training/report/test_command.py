"""`report` as a command: flags, the file it writes, and what it says when it cannot."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.errors import DataError, InputError
from tests.training.report.conftest import keep
from training import cli
from training.report.command import ReportSettings, run_report
from training.report.provenance import provenance_here, read_provenance, save_provenance


def app():
    app = cli.new_app("An application.")
    cli.add_command(
        app,
        "report",
        run_report,
        text="Write one page about the models of a run.",
        settings={"": ReportSettings},
        flags={"run": (Path, ..., "Run folder."), "out": (Path, Path("report.html"), "Page to write.")},
    )
    cli.add_command(app, "other", lambda: None, text="Two commands make names needed.", settings={}, flags={})
    return app


def test_the_page_is_written_and_names_what_was_asked_for(folder: Path, tmp_path: Path) -> None:
    keep(folder, "ease", "popularity")
    out = tmp_path / "page.html"
    arguments = ["report", "--run", str(folder), "--out", str(out), "--title", "A <shop>", "--against", "popularity"]
    result = CliRunner().invoke(app(), arguments, catch_exceptions=False)
    assert result.exit_code == 0
    text = out.read_text()
    assert "<h1>A &lt;shop&gt;</h1>" in text
    assert "Difference to Popularity" in text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_nothing_is_written_where_nothing_can_be_said(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "page.html"
    with pytest.raises(DataError, match="no model's results are there"):
        run_report(ReportSettings(), tmp_path / "empty", out)
    with pytest.raises(InputError, match="there is no such folder"):
        run_report(ReportSettings(), folder, tmp_path / "nowhere" / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_metric_that_is_not_kept_for_each_shopper_is_refused() -> None:
    result = CliRunner().invoke(app(), ["report", "--run", "x", "--metric", "recall@50"])
    assert result.exit_code != 0


def test_provenance_is_of_this_process_and_comes_back(tmp_path: Path) -> None:
    told = provenance_here(["plotpointe-train fit"])
    assert told.cores >= 1
    assert told.versions["numpy"]
    save_provenance(tmp_path, told)
    assert read_provenance(tmp_path) == told
    assert [path.name for path in tmp_path.iterdir()] == ["provenance.json"]
