"""Flags come from the settings' own texts and constraints; errors are one line."""

import subprocess
import sys

import pytest
from pydantic import BaseModel, ConfigDict, Field
from typer.testing import CliRunner

from service.errors import InputError
from training import cli


class Knobs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    depth: int = Field(3, ge=1)
    """How deep
    to go."""
    name: str | None = None
    """Whom to ask."""


def app_for(calls: list[tuple[object, ...]]):
    app = cli.new_app("An application.")
    cli.add_command(
        app,
        "go",
        lambda *settings, **flags: calls.append((settings, flags)),
        text="Go somewhere.",
        settings={"": Knobs, "other": Knobs},
        flags={"work": cli.WORK},
    )
    cli.add_command(app, "stay", lambda: None, text="Stay.", settings={}, flags={})
    return app


def test_flags_become_settings() -> None:
    calls: list[tuple[object, ...]] = []
    result = CliRunner().invoke(app_for(calls), ["go", "--depth", "5", "--other-name", "x", "--work", "w"])
    assert result.exit_code == 0, result.output
    ((first, second), flags), *_ = calls
    assert first == Knobs(depth=5)
    assert second == Knobs(name="x")
    assert str(flags["work"]) == "w"


def test_help_is_the_settings_own_text() -> None:
    result = CliRunner().invoke(app_for([]), ["go", "--help"])
    text = " ".join(result.output.split())
    assert "How deep to go. [default: 3]" in text
    assert "--other-depth" in text


def test_a_value_out_of_bounds_names_the_flag() -> None:
    result = CliRunner().invoke(app_for([]), ["go", "--other-depth", "0"])
    assert isinstance(result.exception, InputError)
    assert "--other-depth: Input should be greater than or equal to 1, got 0" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ["fit-model", "--work", "nowhere"],
            2,
            "error: nowhere/ingest: stage 'ingest' has not run in",
        ),
        (["fit-model", "--width", "1"], 2, "error: --width: Input should be greater than or equal to 7, got 1"),
        (["fit-model", "--width", "broad"], 2, "Invalid value for '--width'"),
        (["juggle"], 2, "No such command"),
    ],
)
def test_the_real_command_says_what_is_wrong_on_stderr(arguments: list[str], status: int, said: str, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training", *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == status
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
