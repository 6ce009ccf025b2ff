"""The examples of docs/API.md, run against a real service."""

import itertools
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from protos import recommender_pb2 as pb
from service import errors
from service.domain import MAX_BATCH, MAX_DEPTH, MAX_ID_BYTES, MAX_K, MAX_LISTED, Degradation, FeedbackKind, Strategy
from service.error_map import ERROR_MAP
from service.rest.request_schemas import RecommendRequestBody
from service.validation.queries import DEFAULT_K

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "API.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
ANSWERED = [
    (line, expected)
    for (kind, line), (kind_after, expected) in itertools.pairwise(BLOCKS)
    if (kind, kind_after) == ("sh", "json")
]
SHELL = [re.split(r"\n(?=curl |buf )", block.strip()) for kind, block in BLOCKS if kind == "sh"]
"""The commands of each block."""
PYTHON = [block for kind, block in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def run(served, admin_key, tmp_path_factory):
    """Run one example as it stands, but for where the service listens; returns what it prints."""
    environment = {
        "HOME": str(tmp_path_factory.mktemp("home")),
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "PLOTPOINTE_ADMIN_KEY": admin_key,
    }

    def run(words: list[str]) -> str:
        words = [
            word.replace("http://127.0.0.1:8000", served.rest).replace("127.0.0.1:50051", served.grpc) for word in words
        ]
        return subprocess.run(
            words, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    return run


def test_every_kind_of_example_is_found():
    assert len(ANSWERED) == 2
    assert len(PYTHON) == 2
    commands = [line.split()[0] for lines in SHELL for line in lines]
    assert (commands.count("curl"), commands.count("buf")) == (16, 12)


@pytest.mark.parametrize("commands", SHELL, ids=range(len(SHELL)))
def test_the_commands_of_a_block_are_answered(run, commands):
    for line in commands:
        answer = json.loads(run(["bash", "-c", line]))
        assert answer, line
        assert ("reason" in answer) == ("k=1000" in line), answer


@pytest.mark.parametrize(("line", "expected"), ANSWERED, ids=["recommend", "error"])
def test_what_stands_below_a_command_is_its_answer(run, line, expected):
    answer, shown = json.loads(run(["bash", "-c", line])), json.loads(expected)
    assert list(answer) == list(shown)
    for name in ("user_id", "strategy", "degraded", "type", "title", "status", "detail", "errors", "request_id"):
        assert answer.get(name) == shown.get(name)
    for item, shown_item in zip(answer.get("items", []), shown.get("items", []), strict=True):
        assert item == shown_item | {"score": pytest.approx(shown_item["score"], rel=1e-4)}


def test_the_python_examples_run(run, served):
    first, second = (run([sys.executable, "-W", "error", "-c", block]).splitlines() for block in PYTHON)
    assert re.match(r"1 item-\d{4} ", first[0])
    assert first[-1] == f"personal {served.version}"
    assert second == [served.version]


def test_the_words_and_limits_are_the_code_s():
    for word in (*Strategy, *Degradation, *FeedbackKind, *RecommendRequestBody.model_fields):
        assert f"`{word}`" in TEXT
    assert f"1 to {MAX_ID_BYTES} bytes" in TEXT
    assert f"| `k` | {DEFAULT_K} | yes | how many items, 1 to {MAX_K} |" in TEXT
    assert f"with `k` at most {MAX_DEPTH:,}" in TEXT
    assert f"at most {MAX_BATCH}:" in TEXT
    assert f"at most {MAX_LISTED} |" in TEXT


def test_every_path_and_every_method_stands_in_the_document(served):
    for path, operations in served.get("/openapi.json").json()["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in TEXT
    for service in pb.DESCRIPTOR.services_by_name.values():
        for method in service.methods_by_name:
            assert f"`{method}`" in TEXT


def test_every_refusal_stands_in_the_table():
    inside = {errors.PlotPointeError, errors.InputError, errors.DataError, errors.BundleError, errors.ModelError}
    for cls, wire in ERROR_MAP.items():
        if wire.http_status != 500 and cls not in inside and not issubclass(cls, errors.StageError):
            assert re.search(rf"\| {wire.http_status} \| {wire.grpc_code} \|[^\n]*`{cls.reason}`", TEXT), cls
