"""A server on loopback that speaks the REST protocol of Vertex AI's metadata and Tensorboard, and of storage."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from google.cloud.aiplatform_v1 import types

from training.evaluation.result import Epoch

PARENT = "projects/shop/locations/us-central1"
KINDS = {
    "metadataStores": types.MetadataStore,
    "contexts": types.Context,
    "artifacts": types.Artifact,
    "experiments": types.TensorboardExperiment,
    "runs": types.TensorboardRun,
    "timeSeries": types.TensorboardTimeSeries,
}
"""Collection -> its message: bodies are parsed by Google's own types, so a field that the API has not is refused."""


class VertexServer(ThreadingHTTPServer):
    """Resources by name, children of contexts, points of series; failures that a test asks for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.resources: dict[str, dict[str, object]] = {}
        self.members: dict[str, set[str]] = {}
        self.points: dict[str, list[tuple[int, float]]] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers_seen: list[dict[str, str]] = []
        self.failures: list[tuple[int, str]] = []
        """Statuses that the next calls are answered with."""
        self.refuse: tuple[int, str] | None = None
        """Status that every call is answered with."""
        self.answers = threading.Event()
        """Cleared, calls are taken and not answered."""
        self.answers.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of_kind(self, schema_title: str) -> list[dict[str, object]]:
        return [found for found in self.resources.values() if found.get("schemaTitle") == schema_title]

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, object]:
        if self.failures:
            status, text = self.failures.pop(0)
            return status, _error(status, text)
        if self.refuse:
            return self.refuse[0], _error(*self.refuse)
        if path.startswith("/upload/storage/v1/b/"):
            return self._upload(path, query, body)
        name, _, verb = path.removeprefix("/v1/").partition(":")
        if method == "POST" and verb:
            return self._verb(name, verb, json.loads(body or b"{}"))
        kind = name.split("/")[-1 if method == "POST" else -2]
        if method == "POST":
            return self._create(name, kind, query, body)
        if method == "GET" and name.endswith("/timeSeries"):
            found = [r for key, r in self.resources.items() if key.startswith(f"{name}/")]
            return 200, {"tensorboardTimeSeries": found}
        if name not in self.resources:
            return 404, _error(404, f"{name} not found")
        if method == "PATCH":
            sent = _parsed(kind, body)
            if sent.get("etag", self.resources[name].get("etag")) != self.resources[name].get("etag"):
                return 409, _error(409, "etag does not match", "ABORTED")
            self.resources[name] = sent | {"name": name, "etag": f"{len(self.requests)}"}
        return 200, self.resources[name]

    def _create(self, collection: str, kind: str, query: dict[str, list[str]], body: bytes) -> tuple[int, object]:
        ids = [value for key, (value, *_) in query.items() if key.endswith("Id")]
        name = f"{collection}/{ids[0] if ids else len(self.resources)}"
        if name in self.resources:
            return 409, _error(409, f"{name} exists", "ALREADY_EXISTS")
        self.resources[name] = _parsed(kind, body) | {"name": name, "etag": "0"}
        if kind == "timeSeries":
            del self.resources[name]["etag"]
        if kind == "metadataStores":
            answer = {"@type": "type.googleapis.com/google.cloud.aiplatform.v1.MetadataStore", "name": name}
            return 200, {"name": f"{PARENT}/operations/1", "done": True, "response": answer}
        return 200, self.resources[name]

    def _verb(self, name: str, verb: str, body: dict[str, list[str]]) -> tuple[int, object]:
        if name not in self.resources:
            return 404, _error(404, f"{name} not found")
        if verb == "addContextChildren":
            self.members.setdefault(name, set()).update(body["childContexts"])
        elif verb == "addContextArtifactsAndExecutions":
            self.members.setdefault(name, set()).update(body["artifacts"])
        elif verb == "write":
            request = types.WriteTensorboardRunDataRequest.from_json(json.dumps(body))
            for series in request.time_series_data:
                points = self.points.setdefault(f"{name}/timeSeries/{series.tensorboard_time_series_id}", [])
                points += [(value.step, value.scalar.value) for value in series.values]
        else:
            return 404, _error(404, verb)
        return 200, {}

    def _upload(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, object]:
        boundary = body.split(b"\r\n", 1)[0]
        described, content = (part.split(b"\r\n\r\n", 1)[1] for part in body.split(boundary)[1:3])
        bucket, name = path.split("/")[5], json.loads(described)["name"]
        self.uploads[f"gs://{bucket}/{name}"] = content.removesuffix(b"\r\n")
        return 200, {"name": name, "bucket": bucket}


class Handler(BaseHTTPRequestHandler):
    server: VertexServer

    def do_GET(self) -> None:
        self._respond("GET")

    def do_POST(self) -> None:
        self._respond("POST")

    def do_PATCH(self) -> None:
        self._respond("PATCH")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""

    def _respond(self, method: str) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((method, re.sub(r".*/(?=[^/]+/[^/]+$)", "", parts.path)))
        self.server.headers_seen.append(dict(self.headers))
        if not self.server.answers.wait(timeout=30):
            return
        status, answer = self.server.answer(method, parts.path, parse_qs(parts.query), body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _parsed(kind: str, body: bytes) -> dict[str, object]:
    message = KINDS[kind]
    parsed: dict[str, object] = json.loads(
        message.to_json(message.from_json(body or b"{}"), always_print_fields_with_no_presence=False)
    )
    return parsed


def _error(status: int, text: str, reason: str = "") -> dict[str, object]:
    return {"error": {"code": status, "message": text, "status": reason}}


@pytest.fixture
def vertex_server() -> Iterator[VertexServer]:
    server = VertexServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.answers.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def curve() -> tuple[Epoch, ...]:
    return tuple(Epoch(epoch=n, loss=1 / n, validation_recall_at_20=n / 10, seconds=0.5) for n in (1, 2, 3))
