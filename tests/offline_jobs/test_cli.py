"""`plotpointe-jobs` as a person meets it: its help, and what it says of input that it cannot take."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from offline_jobs.__main__ import COMMANDS, _load, build_app
from offline_jobs.generated_shop import GeneratedShopSettings, generate_shop

TIMEOUT_S = 60
MAPPING = """
[interactions]
file = "interactions.csv"
user_id = "user"
item_id = "item"
timestamp = "time"
"""


def run(*arguments, cwd=None):
    """The real command, in a process of its own."""
    command = [sys.executable, "-m", "offline_jobs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=cwd, check=False)


def squeezed(text: str) -> str:
    """Without white space: the help breaks lines at hyphens too."""
    return "".join(text.split())


def assert_refused(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in line


@pytest.fixture
def table(tmp_path):
    """Write a shop's own CSV file with these columns, and the mapping that names user, item and time."""

    def written(header: str) -> Path:
        folder = tmp_path / "shop"
        folder.mkdir()
        rows = [",".join([f"u{n % 5}", f"i{n % 7}", str(1_600_000_000 + n * 90_000)]) for n in range(40)]
        (folder / "shop.toml").write_text(MAPPING)
        (folder / "interactions.csv").write_text("\n".join([header, *rows]) + "\n")
        return folder

    return written


def test_the_list_of_commands_says_what_each_does():
    result = run("--help")
    assert result.returncode == 0
    for name, command in COMMANDS.items():
        assert f"{name} " in result.stdout
        assert command.text in result.stdout, "the text is cut off in the list"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_explained_with_its_default(name):
    command = COMMANDS[name]
    result = CliRunner().invoke(build_app(only=name), [name, "--help"], env={"COLUMNS": "400", "TERMINAL_WIDTH": "400"})
    assert result.exit_code == 0
    said = squeezed(result.output)
    for flag, (_, _, text) in command.flags.items():
        assert f"--{flag.replace('_', '-')}" in said
        assert squeezed(text) in said
    fields = _load(command.settings).model_fields if command.settings else {}
    for flag, field in fields.items():
        assert f"--{flag.replace('_', '-')}" in said
        assert field.description, f"{name} --{flag} has no text"
        assert squeezed(field.description) in said
        if field.default not in (None, False):
            assert squeezed(f"[default: {field.default}]") in said


def test_a_missing_column_is_named(table, tmp_path):
    result = run("ingest", "--data", table("user,product,time"), "--work", tmp_path / "work")
    assert_refused(result, "interactions.csv", "'item'")
    assert not (tmp_path / "work" / "ingest").exists()


def test_an_unknown_format_is_named(table, tmp_path):
    data = table("user,item,time")
    assert_refused(run("ingest", "--data", data, "--work", tmp_path / "work", "--format", "xls"), "xls", "amazon-2014")
    (data / "shop.toml").unlink()
    assert_refused(run("ingest", "--data", data, "--work", tmp_path / "work"), str(data))
    assert not (tmp_path / "work" / "ingest").exists()


@pytest.mark.parametrize("command", ["ingest", "run", "demo"])
def test_a_wrong_path_is_named(tmp_path, command):
    data = tmp_path / "nothing-here"
    flags = ["--rest-port", "0", "--grpc-port", "0"] if command == "demo" else []
    assert_refused(run(command, "--data", data, "--work", tmp_path / "work", *flags), str(data))
    assert not (tmp_path / "work" / "ingest").exists()


def test_broken_rows_are_set_aside_and_counted(table, tmp_path):
    data = table("user,item,time")
    with (data / "interactions.csv").open("a") as file:
        file.write("u1,i1,yesterday\n,i2,1600000000\n")
    result = run("ingest", "--data", data, "--work", tmp_path / "work")
    assert result.returncode == 0, result.stderr
    refused = [json.loads(line) for line in (tmp_path / "work/ingest/quarantine.jsonl").read_text().splitlines()]
    assert [row["line"] for row in refused] == [42, 43]
    counts = json.loads((tmp_path / "work/ingest/stage.json").read_text())["counts"]
    assert (counts["interactions"], counts["quarantined"]) == (40, 2)


def test_a_step_out_of_turn_names_the_one_before(tmp_path):
    assert_refused(run("split", "--work", tmp_path), "stage 'ingest' has not run", "plotpointe-jobs run")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("split", "--test-days", "-1"), ("--test-days",)),
        (("index", "--factory", "PQ8"), ("--factory",)),
        (("run", "--data", ".", "--set", "epochs=1"), ("--set", "COMMAND.FLAG=VALUE")),
        (("run", "--data", ".", "--set", "cook.epochs=1"), ("'cook'", "fuse")),
        (("weights", "--name", "nobody"), ("nobody", "all-MiniLM-L6-v2")),
    ],
)
def test_a_bad_flag_is_named(flags, words, tmp_path):
    assert_refused(run(*flags, cwd=tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("fuse", "--epochs", "many"), "--epochs"),
        (("fuse", "--epoch", "3"), "--epoch"),
        (("run", "--data", ".", "--set", "fuse.epoch=1"), "--epoch"),
        (("run", "--data", ".", "--set", "fit-model.max-epochs=many"), "--max-epochs"),
        (("run",), "--data"),
        (("cook",), "cook"),
    ],
)
def test_what_the_command_line_does_not_know_shows_the_usage(flags, word, tmp_path):
    result = run(*flags, cwd=tmp_path)
    assert result.returncode == 2
    assert "Usage: " in result.stderr
    assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--rest-port", "--grpc-port"])
def test_a_busy_port_is_heard_of_before_the_steps_run(flag, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"--rest-port": "0", "--grpc-port": "0"} | {flag: str(taken.getsockname()[1])}
        given = [part for pair in ports.items() for part in pair]
        result = run("demo", "--work", tmp_path / "demo" / "work", *given)
    assert_refused(result, flag, ports[flag], "another port")
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_generated_shop_is_not_made_over_something_else(tmp_path):
    (tmp_path / "mine.txt").write_text("dear to me")
    assert_refused(run("generate", "--out", tmp_path, "--items", "60", "--users", "60"), str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_generate_makes_the_shop_that_the_function_makes(tmp_path):
    result = run("generate", "--out", tmp_path / "a", "--items", "60", "--users", "60", "--image-share", "0")
    assert result.returncode == 0, result.stderr
    generate_shop(GeneratedShopSettings(items=60, users=60, image_share=0), tmp_path / "b")
    for file in ("reviews.json.gz", "meta.json.gz", "truth.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
