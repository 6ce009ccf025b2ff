"""Google's own clients of Vertex AI's metadata, Tensorboard and storage, each call bounded and repeated where it may.

The clients speak REST: one HTTP session that honours the machine's proxies and certificates, and no gRPC threads in a
process that forks workers. They are the generated clients and not the `aiplatform` package above them, whose calls
take no timeouts and whose project, region and credentials are globals of the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from service.errors import InputError
from training.tracking.tracker import TrackingError, redact

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.aiplatform_v1.services.metadata_service import MetadataServiceClient
    from google.cloud.aiplatform_v1.services.tensorboard_service import TensorboardServiceClient

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class VertexAddress:
    """A project and region of Vertex AI, and the clients that reach it."""

    project: str
    location: str
    endpoint: str = ""
    """Address of the API; empty for the region's own. `http://` is taken for this machine only, without credentials."""
    timeout_seconds: float = 10.0
    """Longest wait for one call, repeats included."""

    def __post_init__(self) -> None:
        """Refuse an address that would carry credentials in the clear."""
        if self.endpoint.startswith("http://") and not self.on_this_machine:
            raise InputError(
                "credentials do not travel over http://", where=self.endpoint, todo="Use https:// for another machine"
            )

    @property
    def on_this_machine(self) -> bool:
        """Whether the endpoint is a plain server on a loopback address."""
        return self.endpoint.startswith("http://") and urlsplit(self.endpoint).hostname in LOOPBACK

    @property
    def host(self) -> str:
        """Where the API is."""
        return self.endpoint or f"{self.location}-aiplatform.googleapis.com"

    @property
    def parent(self) -> str:
        """Resource name of the project's region."""
        return f"projects/{self.project}/locations/{self.location}"

    @cached_property
    def credentials(self) -> Credentials:
        """Application Default Credentials; none are sent to this machine."""
        import google.auth
        from google.auth.credentials import AnonymousCredentials

        if self.on_this_machine:
            return AnonymousCredentials()  # type: ignore[no-untyped-call]
        found, _ = google.auth.default(scopes=[SCOPE], quota_project_id=self.project)
        return found

    @cached_property
    def metadata(self) -> MetadataServiceClient:
        """The service that keeps experiments and runs, as contexts and artifacts."""
        from google.api_core.client_options import ClientOptions
        from google.cloud.aiplatform_v1.services.metadata_service import MetadataServiceClient

        options = ClientOptions(api_endpoint=self.host)
        return MetadataServiceClient(credentials=self.credentials, transport="rest", client_options=options)

    @cached_property
    def tensorboards(self) -> TensorboardServiceClient:
        """The service that keeps series of epochs."""
        from google.api_core.client_options import ClientOptions
        from google.cloud.aiplatform_v1.services.tensorboard_service import TensorboardServiceClient

        options = ClientOptions(api_endpoint=self.host)
        return TensorboardServiceClient(credentials=self.credentials, transport="rest", client_options=options)

    @cached_property
    def bounded(self) -> dict[str, Any]:
        """Arguments of every call: a total of `timeout_seconds`, in which what may pass is tried again."""
        import requests
        from google.api_core import exceptions
        from google.api_core.retry import Retry, if_exception_type

        passing = if_exception_type(
            exceptions.ServiceUnavailable,
            exceptions.TooManyRequests,
            exceptions.BadGateway,
            exceptions.GatewayTimeout,
            requests.exceptions.ConnectionError,
        )
        retry = Retry(predicate=passing, initial=0.2, multiplier=2, maximum=2, timeout=self.timeout_seconds)
        return {"retry": retry, "timeout": self.timeout_seconds}

    def upload(self, path: Path, target: str) -> None:
        """Upload a file to `gs://bucket/name`; Google's client reads STORAGE_EMULATOR_HOST for another server."""
        from google.cloud import storage

        credentials = None if self.on_this_machine else self.credentials
        bucket, name = target.removeprefix("gs://").split("/", 1)
        client = storage.Client(project=self.project, credentials=credentials)
        client.bucket(bucket).blob(name).upload_from_filename(str(path), **self.bounded)

    @contextmanager
    def mapped(self, doing: str) -> Iterator[None]:
        """Everything that Google's clients raise, as TrackingError."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError

        try:
            yield
        except (GoogleAPIError, GoogleAuthError, OSError) as error:  # requests' errors are OSErrors
            first = str(error).splitlines()[0]
            raise TrackingError(
                f"Vertex AI could not {doing} ({type(error).__name__}: {redact(first)})",
                where=f"{self.host}/{self.parent}",
                todo="Check --track-project, --track-location and the account's role (roles/aiplatform.user)",
            ) from error


def resource_id(name: str) -> str:
    """`name` as Vertex AI takes ids: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
