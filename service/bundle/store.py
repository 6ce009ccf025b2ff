"""Where bundles live: a root folder with one folder a version, and `CURRENT`, a file that names the active one."""

from __future__ import annotations

import os
from pathlib import Path

from service.errors import BundleMissingError

CURRENT = "CURRENT"


def active_version(root: Path) -> str:
    """The version that `CURRENT` names; BundleMissingError where none is active."""
    try:
        version = (root / CURRENT).read_text().strip()
    except FileNotFoundError as error:
        raise BundleMissingError(
            "no bundle is active here (there is no CURRENT file)",
            where=str(root),
            todo="Publish one with `plotpointe-jobs publish`, or correct PLOTPOINTE_BUNDLES",
        ) from error
    if not version or "/" in version or version.startswith("."):
        raise BundleMissingError(
            f"CURRENT does not name a bundle: {version!r}",
            where=str(root / CURRENT),
            todo="Activate a version",
        )
    return version


def activate(root: Path, version: str) -> None:
    """Make `version` the active bundle, in one rename."""
    if not (root / version / "manifest.json").is_file():
        known = ", ".join(versions(root)) or "none"
        raise BundleMissingError(f"there is no bundle {version!r}", where=str(root), todo=f"Versions here: {known}")
    temporary = root / f".{CURRENT}.{os.getpid()}"
    temporary.write_text(version + "\n")
    os.replace(temporary, root / CURRENT)


def versions(root: Path) -> list[str]:
    """Published versions, in name order."""
    return sorted(p.parent.name for p in root.glob("*/manifest.json") if not p.parent.name.startswith("."))
