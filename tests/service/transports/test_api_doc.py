"""The examples of docs/API.md, run against a real service."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.domain import MAX_ID_BYTES, MAX_K, Degradation, Strategy
from service.validation.queries import DEFAULT_K

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "API.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
CURLS = [
    (command, expected)
    for (kind, command), (kind_after, expected) in itertools.pairwise(BLOCKS)
    if (kind, kind_after) == ("sh", "json")
]


def test_both_kinds_of_example_are_found():
    assert len(CURLS) == 2
    assert [kind for kind, _ in BLOCKS].count("python") == 1


@pytest.mark.parametrize(("example", "expected"), CURLS)
def test_a_curl_example_answers_what_stands_below_it(served, example, expected):
    program, *words = shlex.split(example)
    assert program == "curl"
    headers = dict(words[n + 1].split(": ") for n, word in enumerate(words) if word == "-H")
    [url] = [word for word in words if word.startswith("http")]
    answer = httpx.get(url.replace("http://127.0.0.1:8000", served.rest), headers=headers).json()
    shown = json.loads(expected)
    assert list(answer) == list(shown)
    for name in ("user_id", "strategy", "degraded", "type", "title", "status", "detail", "errors", "request_id"):
        assert answer.get(name) == shown.get(name)
    for item, shown_item in zip(answer.get("items", []), shown.get("items", []), strict=True):
        assert item == shown_item | {"score": pytest.approx(shown_item["score"], rel=1e-4)}


def test_the_python_example_runs(served):
    [code] = [block for kind, block in BLOCKS if kind == "python"]
    code = code.replace("127.0.0.1:50051", served.grpc)
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert re.search(r"^1 item-\d{4} ", result.stdout)
    assert result.stdout.splitlines()[-1] == f"personal {served.version}"


def test_the_words_and_limits_are_the_code_s():
    for word in (*Strategy, *Degradation):
        assert f"`{word}`" in TEXT
    assert f"1 to {MAX_ID_BYTES} bytes" in TEXT
    assert f"| `k` | {DEFAULT_K} | how many items, 1 to {MAX_K} |" in TEXT


def test_every_path_stands_in_the_document(served):
    for path in served.get("/openapi.json").json()["paths"]:
        assert f"GET {path}`" in TEXT
