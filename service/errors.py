"""Every error that PlotPointe raises on purpose, for both halves.

PlotPointeError              carries what is wrong, where, and what to do
├── InputError               the caller's data, flags or request are wrong
│   ├── DataError            a shop's file cannot be read as it was described
│   ├── InvalidQueryError    a request breaks the contract (400, INVALID_ARGUMENT)
│   │   └── InvalidFilterError   a filter expression cannot be read, or names what the items do not have
│   ├── RequestTooLargeError a request is larger than the service reads (413, RESOURCE_EXHAUSTED)
│   └── UnknownItemError     a request is about an item that no one knows (404, NOT_FOUND)
├── BundleError              a bundle was refused; nothing of it is served
│   ├── BundleMissingError   there is no such bundle, or none is active
│   ├── BundleCorruptError   a file's size or checksum differs from the manifest
│   └── BundleForeignError   a file is whole but not what the manifest or the other files say
├── StageError               an offline stage cannot run or finish
│   └── StageBusyError       another process is running the same stage
├── PortBusyError            a port to listen on is taken
├── ModelError               a model or the index failed on one request (becomes a degradation)
├── EncoderUnavailableError  no text or image encoder: not in the bundle, or not installed (501, UNIMPLEMENTED)
├── CatalogFullError         the live catalogue holds as much as it may (429, RESOURCE_EXHAUSTED)
├── CatalogCorruptError      the file of the live catalogue is none, or of a newer service
├── UnknownTenantError       a request names a shop that is not served here (404, NOT_FOUND)
├── UnauthenticatedError     an admin call without the right key (401, UNAUTHENTICATED)
├── DeadlineError            the caller's deadline passed before there was an answer (504, DEADLINE_EXCEEDED)
└── UnavailableError         cannot answer now; retrying may help (503, UNAVAILABLE)
    ├── NotReadyError        no bundle is loaded yet, or the service is draining
    └── OverloadedError      more is asked than can be answered in time; refused at once
"""

from __future__ import annotations


class PlotPointeError(Exception):
    """An error a person is meant to read: what is wrong, where, and what to do about it."""

    reason = "INTERNAL"
    """Machine-readable name, the same in REST problem bodies and gRPC error details."""

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.todo = todo

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.todo}" if self.todo else text


class InputError(PlotPointeError):
    """The caller's data, flags or request are wrong."""

    reason = "INVALID_INPUT"


class DataError(InputError):
    """A shop's file cannot be read as it was described."""

    reason = "INVALID_DATA"


class InvalidQueryError(InputError):
    """A request breaks the contract; `where` names the field."""

    reason = "INVALID_ARGUMENT"


class InvalidFilterError(InvalidQueryError):
    """A filter expression cannot be read, or names what the items do not have; it says at which column."""


class RequestTooLargeError(InputError):
    """A request is larger than the service reads; it is refused before it is taken apart."""

    reason = "REQUEST_TOO_LARGE"


class UnknownItemError(InputError):
    """A request is about an item that neither the bundle nor the live catalogue knows; `where` names the field."""

    reason = "ITEM_NOT_FOUND"


class InvalidImageError(InvalidQueryError):
    """Bytes that are no image, or an image beyond the limits."""

    reason = "INVALID_IMAGE"


class BundleError(PlotPointeError):
    """A bundle was refused; nothing of it is served."""

    reason = "BUNDLE_REFUSED"


class BundleMissingError(BundleError):
    """There is no such bundle, or none is active."""

    reason = "BUNDLE_MISSING"


class BundleCorruptError(BundleError):
    """A file's size or checksum differs from the manifest."""

    reason = "BUNDLE_CORRUPT"


class BundleForeignError(BundleError):
    """A file is whole but is not what the manifest or the other files say it is."""

    reason = "BUNDLE_FOREIGN"


class StageError(PlotPointeError):
    """An offline stage cannot run or finish."""

    reason = "STAGE_FAILED"


class StageBusyError(StageError):
    """Another process is running the same stage in the same work folder."""

    reason = "STAGE_BUSY"


class PortBusyError(PlotPointeError):
    """A port to listen on is taken."""

    reason = "PORT_BUSY"


class ModelError(PlotPointeError):
    """A model or the index failed on one request. The hot path turns it into a degradation: no caller sees it."""

    reason = "MODEL_FAILED"


class UnknownTenantError(PlotPointeError):
    """A request names a shop that is not served here."""

    reason = "TENANT_NOT_FOUND"


class UnauthenticatedError(PlotPointeError):
    """An admin call without the right key."""

    reason = "UNAUTHENTICATED"


class DeadlineError(PlotPointeError):
    """The caller's deadline passed before there was an answer."""

    reason = "DEADLINE_EXCEEDED"


class EncoderUnavailableError(PlotPointeError):
    """Texts or images cannot be encoded here: the bundle holds no encoder for them, or its libraries are missing."""

    reason = "ENCODER_UNAVAILABLE"


class CatalogFullError(PlotPointeError):
    """The live catalogue holds as many items, or as many bytes of pictures, as it may; nothing of the call was kept."""

    reason = "LIVE_CATALOG_FULL"


class CatalogCorruptError(PlotPointeError):
    """The file of the live catalogue is none, is damaged, or was written by a newer service. It is left as it is."""

    reason = "LIVE_CATALOG_CORRUPT"


class UnavailableError(PlotPointeError):
    """The service cannot answer now; retrying may help, after `retry_after_s` seconds."""

    reason = "UNAVAILABLE"

    def __init__(self, what: str, *, where: str = "", todo: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(what, where=where, todo=todo)
        self.retry_after_s = retry_after_s


class NotReadyError(UnavailableError):
    """No bundle is loaded yet, or the service is draining."""

    reason = "NOT_READY"


class OverloadedError(UnavailableError):
    """More is asked than can be answered in time; refused at once, so that the others get their answers."""

    reason = "OVERLOADED"
