"""Each image installs some extras: what its packages import must come with them, directly or through a dependency."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OWN = {"service", "protos", "training", "offline_jobs"}
DISTRIBUTIONS = packages_distributions()


def imported(path: Path) -> Iterator[str]:
    """Top-level names of all imports, those inside functions too, but for those that only type checkers see."""
    tree = ast.parse(path.read_text("utf-8"))
    unseen = {id(child) for node in ast.walk(tree) if is_for_types(node) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def installed_by(extras: set[str]) -> set[str]:
    """Names of the distributions that `plotpointe[extras]` brings, all the way down, on this machine."""
    found: set[str] = set()
    open_ends = [("plotpointe", frozenset(extras))]
    visited = set(open_ends)
    while open_ends:
        name, wanted = open_ends.pop()
        found.add(name)
        for requirement in requirements_of(name, wanted):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *wanted}):
                end = (normal(requirement.name), frozenset(requirement.extras))
                if end not in visited:
                    visited.add(end)
                    open_ends.append(end)
    return found


def requirements_of(name: str, extras: frozenset[str]) -> list[Requirement]:
    """PlotPointe's are read where they are written: an older installation may have had others."""
    if name == "plotpointe":
        optional = PROJECT["optional-dependencies"]
        return [Requirement(line) for lines in (PROJECT["dependencies"], *map(optional.get, extras)) for line in lines]
    try:
        return [Requirement(line) for line in distribution(name).requires or []]
    except PackageNotFoundError:
        return []  # for another platform


ONLY_WHERE_ASKED = (
    "training/tracking/mlflow_tracker.py",
    "training/tuning/ray_session.py",
    "training/tuning/search.py",
    "training/tuning/supervisor.py",
)
"""Import libraries of further extras inside functions, or are imported so."""
ENCODERS = ("service/encoders.py", "service/image_bytes.py")
"""Likewise, of the extra `encoders`."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("extras", "paths"),
    [
        ("service,cpu", ["service", "protos"]),
        ("service,cpu,encoders", list(ENCODERS)),
        ("jobs,cpu", ["training", "offline_jobs"]),
        ("jobs,cpu,tracking,distributed,gcp", list(ONLY_WHERE_ASKED)),
        ("client", ["service/client.py", "protos/recommender_pb2.py", "protos/recommender_pb2_grpc.py"]),
        ("load", ["loadtests", "service/bundle/files.py", "service/bundle/store.py"]),
    ],
)
def test_extras_hold_what_is_imported(extras: str, paths: list[str]):
    have = installed_by(set(extras.split(",")))
    missing = set()
    files = [
        file for path in paths for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py"))
    ]
    for file in files:
        name = str(file.relative_to(ROOT))
        asked = {**dict.fromkeys(ONLY_WHERE_ASKED, "tracking"), **dict.fromkeys(ENCODERS, "encoders")}
        if file.name == "generate.py" or asked.get(name, extras) not in extras:
            continue  # makes the stubs, for developers; or needs further extras
        for name in set(imported(file)) - OWN - sys.stdlib_module_names:
            if not {normal(source) for source in DISTRIBUTIONS.get(name, [name])} & have:
                missing.add((str(file.relative_to(ROOT)), name))
    assert files
    assert not missing


def test_an_extra_without_a_library_is_found_out():
    assert "torch" not in installed_by({"service", "cpu"})
    assert "pandas" not in installed_by({"service", "cpu"})
    assert "pyarrow" not in installed_by({"service", "cpu"})
    assert "torch" in installed_by({"jobs", "cpu"})


def test_what_needs_further_extras_is_not_imported_before_it_is_asked_for():
    late = "{'ray', 'mlflow', 'sqlalchemy'}"
    code = f"import sys, training.__main__, offline_jobs.__main__; print({late} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
