"""What a folder of bundles is to serve beside `CURRENT`: a canary, a shadow, and where a rollback leads. One file.

Every worker and every replica that shares the folder follows it, so that a call to one of them reaches all.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BundleError, BundleForeignError

ROLLOUT = "ROLLOUT"
"""Name of the file, beside `CURRENT`."""


class Part(BaseModel):
    """A bundle and the share of shoppers, or of requests, that it gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(min_length=1)
    share: float = Field(gt=0, le=1)


class Rollout(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    serving: str = ""
    """The last version that was really served: what a refused CURRENT falls back to."""
    previous: str = ""
    """The version before it: what a rollback makes current."""
    canary: Part | None = None
    shadow: Part | None = None

    def now_serving(self, version: str) -> Rollout:
        """After `version` became the one that serves: the one before is where a rollback leads."""
        ends_canary = self.canary is not None and self.canary.version == version
        ends_shadow = self.shadow is not None and self.shadow.version == version
        return self.model_copy(
            update={
                "serving": version,
                "previous": self.previous if self.serving in ("", version) else self.serving,
                "canary": None if ends_canary else self.canary,
                "shadow": None if ends_shadow else self.shadow,
            }
        )


def read_rollout(root: Path) -> Rollout:
    """The rollout of the bundles in `root`; an empty one where there is no file. Raises BundleForeignError."""
    try:
        return Rollout.model_validate_json((root / ROLLOUT).read_bytes())
    except FileNotFoundError:
        return Rollout()
    except ValidationError as error:
        raise BundleForeignError(
            f"not a rollout: {error.errors()[0]['msg']}", where=str(root / ROLLOUT), todo="Correct or remove the file"
        ) from error


def change_rollout(root: Path, change: Callable[[Rollout], Rollout]) -> Rollout:
    """Replace the rollout by `change` of it, in one rename; processes that do so at once take turns.

    Raises BundleError where the folder cannot be written to. May wait for others: not for the event loop.
    """
    with writing(root), _turn(root):
        old = read_rollout(root)
        new = change(old)
        if new != old:
            temporary = root / f".{ROLLOUT}.{os.getpid()}"
            temporary.write_text(new.model_dump_json(indent=2, exclude_none=True) + "\n")
            os.replace(temporary, root / ROLLOUT)
    return new


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """What the folder of bundles refuses while the context is open becomes a BundleError."""
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"the folder of bundles cannot be written to ({error.strerror})",
            where=str(root),
            todo="Make it writable for the service, or change CURRENT where the bundles are published",
        ) from error


@contextmanager
def _turn(root: Path) -> Iterator[None]:
    with (root / f".{ROLLOUT}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, whatever becomes of the process
        yield
