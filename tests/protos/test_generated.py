"""What is committed is what the sources of truth say."""

import json
import re

import jsonschema
import pytest
from google.protobuf.descriptor import Descriptor

from protos import recommender_pb2
from protos.generate import GENERATED, PROTO, ROOT, generate, manifest_schema
from service.bundle.manifest import Manifest

MESSAGES = list(recommender_pb2.DESCRIPTOR.message_types_by_name.values())


def test_committed_files_equal_a_fresh_run(tmp_path):
    generate(tmp_path)
    for path in GENERATED:
        fresh, committed = (tmp_path / path).read_text("utf-8"), (ROOT / path).read_text("utf-8")
        assert fresh == committed, f"{path} is stale: run `make protos`"


def test_a_fresh_run_writes_nothing_else(tmp_path):
    generate(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(GENERATED)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_every_field_has_a_comment(message: Descriptor):
    lines = (ROOT / PROTO).read_text("utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"message {message.name} {{"))
    for field in message.fields:
        declared = re.compile(rf"^  .*\b{field.name} = {field.number};$")
        at = next(n for n in range(start, len(lines)) if declared.match(lines[n]))
        assert lines[at - 1].lstrip().startswith("// "), f"{message.name}.{field.name} has no comment"
    assert lines[start - 1].startswith("// "), f"{message.name} has no comment"


def test_manifest_schema_refuses_what_the_manifest_refuses():
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    validator = jsonschema.Draft202012Validator(manifest_schema())
    complaints = " ".join(error.message for error in validator.iter_errors({"format_version": 2, "surprise": 1}))
    assert "surprise" in complaints
    for name in Manifest.model_fields:
        assert name in json.dumps(manifest_schema())
    assert "'version' is a required property" in complaints
