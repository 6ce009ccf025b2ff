"""Writes what is generated from a source of truth: `python -m protos.generate` (or `make protos`).

- `recommender.proto` -> `recommender_pb2.py`, `recommender_pb2.pyi`, `recommender_pb2_grpc.py`
- `service.bundle.manifest.Manifest` -> `bundle_manifest.schema.json`

The output is committed, so that nobody who installs the service needs a compiler; a test compares it with a fresh run.
Stubs are made with the oldest supported grpcio-tools: stubs refuse a runtime that is older than their compiler.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

from service.bundle.manifest import Manifest
from service.errors import StageError

PROTO = "protos/recommender.proto"
ROOT = Path(__file__).resolve().parent.parent
"""The repository's root; stubs compiled from here say `from protos import ...`."""
GENERATED = (
    "protos/recommender_pb2.py",
    "protos/recommender_pb2.pyi",
    "protos/recommender_pb2_grpc.py",
    "protos/bundle_manifest.schema.json",
)
"""Every file that `generate` writes, relative to the output folder."""


def generate(out: Path = ROOT) -> None:
    """Write every file of `GENERATED` under `out`; StageError where the compiler refuses the proto file."""
    (out / "protos").mkdir(parents=True, exist_ok=True)
    flags = [f"--{plugin}_out={out}" for plugin in ("python", "pyi", "grpc_python")]
    status = protoc.main(["protoc", f"-I{ROOT}", *flags, str(ROOT / PROTO)])
    if status != 0:
        raise StageError("the protobuf compiler refused the file", where=PROTO, todo="Its message stands above")
    schema = json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"
    (out / "protos" / "bundle_manifest.schema.json").write_text(schema, encoding="utf-8")


def manifest_schema() -> dict[str, object]:
    """JSON schema of `manifest.json`, with its dialect and name."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "plotpointe/bundle_manifest.schema.json",
        **Manifest.model_json_schema(),
    }


if __name__ == "__main__":
    generate()
    print(*GENERATED, sep=os.linesep)
