"""What the documents name is there: files, commands, targets, links."""

import re
import tomllib
from pathlib import Path

import pytest

from offline_jobs.__main__ import COMMANDS
from training.__main__ import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "training" / "EXPERIMENTS.md"])
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_the_readme_lists_what_is_there() -> None:
    table = README.split("Read `service/recommend.py` first")[1].split("## Commands")[0]
    named = [path for row in re.findall(r"^\| (`.+?) \|", table, re.M) for path in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_package_is_in_the_readme() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert [package for package in packages if f"`{package}/" not in README] == []


def test_commands_in_the_documents_exist() -> None:
    train = {command.name for command in app.registered_commands}
    listed = re.search(r"^plotpointe-jobs +(generate .*)$", README, re.M)
    assert listed
    assert set(listed[1].split(" | ")) <= set(COMMANDS)
    for document in DOCUMENTS:
        text = document.read_text()
        assert set(re.findall(r"plotpointe-jobs ([a-z][a-z-]+)", text)) <= set(COMMANDS), document.name
        assert set(re.findall(r"plotpointe-train ([a-z][a-z-]+)", text)) <= train, document.name


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in DOCUMENTS:
        named = set(re.findall(r"`make ([a-z-]+)|^make ([a-z-]+)", document.read_text(), re.M))
        assert {a or b for a, b in named} <= targets, document.name


def test_every_stage_of_the_pipeline_is_in_the_architecture() -> None:
    from offline_jobs.steps import STAGES

    architecture = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    assert [stage for stage in STAGES if f"`{stage}`" not in architecture] == []
