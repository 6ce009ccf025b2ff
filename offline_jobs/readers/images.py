"""Pictures beside the data: listed once, by the names that `items.image` uses.

A picture is named `folder/file.jpg` (relative to the shop's folder) or `archive.tar::member.jpg`.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from service.errors import DataError

MEMBER = "::"
"""Stands between a tar archive and its member."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def list_images(data: Path, pattern: str) -> frozenset[str]:
    """Every picture that `pattern` could name, for example `images/{item_id}.jpg` or `photos.tar::{item_id}.jpg`.

    Raises DataError where the archive of the pattern is missing or damaged; a missing folder has no pictures.
    """
    archive, found, _ = pattern.partition(MEMBER)
    if found:
        return frozenset(f"{archive}{MEMBER}{name}" for name in _members(data / archive))
    folder = pattern.partition("{")[0].rpartition("/")[0]
    root = data / folder
    names = (Path(base) / name for base, _, files in os.walk(root) for name in files)
    return frozenset(str(path.relative_to(data)) for path in names if path.suffix.lower() in SUFFIXES)


def _members(path: Path) -> list[str]:
    try:
        with tarfile.open(path, mode="r:") as archive:
            return [member.name for member in archive if member.isfile()]
    except FileNotFoundError as error:
        raise DataError(
            "the archive with the pictures is not there",
            where=str(path),
            todo="Put it there, or leave `image` out of the column mapping",
        ) from error
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"the archive with the pictures cannot be read ({error})",
            where=str(path),
            todo="It must be a whole, uncompressed .tar file",
        ) from error
