"""Write a bundle: save artifacts into a draft; `publish` digests, names and verifies it and moves it into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from service.bundle.files import CodedStrings, StringTable, save_array, save_coded, save_strings, sha256_file
from service.bundle.manifest import Artifact, Manifest
from service.bundle.reader import MANIFEST, open_bundle


class Draft:
    """A bundle being written, in a private folder below the root."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.root = root
        self.directory = directory

    def array(self, name: str, values: np.typing.NDArray[Any]) -> None:
        """Add `<name>.npy`."""
        save_array(self.directory, name, values)

    def strings(self, name: str, values: StringTable) -> None:
        """Add a string table or an id table."""
        save_strings(self.directory, name, values)

    def coded(self, name: str, values: CodedStrings) -> None:
        """Add a coded column."""
        save_coded(self.directory, name, values)

    def file(self, name: str, source: Path) -> None:
        """Add a copy of a file: the FAISS index or an ONNX model."""
        shutil.copyfile(source, self.directory / name)

    def content(self, name: str, content: bytes) -> None:
        """Add a file of these bytes."""
        (self.directory / name).write_bytes(content)

    def publish(self, **described: Any) -> Manifest:
        """Finish: returns the manifest of `<root>/<version>`.

        `described` are the manifest's fields other than format_version, version, created_at and files. The version is
        the day of `as_of` and a digest of everything but the clock, so the same content gets the same version.
        Raises BundleError, publishing nothing, where the service would refuse what was written.
        """
        files = {p.name: _artifact(p) for p in sorted(self.directory.iterdir())}
        created = datetime.now(UTC).isoformat(timespec="seconds")
        unnamed = Manifest(version="draft", created_at="", files=files, **described)
        body = unnamed.model_dump_json(exclude={"version", "created_at"}).encode()
        day = datetime.fromtimestamp(unnamed.as_of, UTC).strftime("%Y%m%d")
        version = f"{day}-{hashlib.sha256(body).hexdigest()[:12]}"
        manifest = unnamed.model_copy(update={"version": version, "created_at": created})
        (self.directory / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1))
        open_bundle(self.directory)
        final = self.root / version
        if final.exists():
            open_bundle(final)  # the same content was published before: keep it, and its created_at
        else:
            os.rename(self.directory, final)
        return manifest


@contextlib.contextmanager
def new_bundle(root: Path) -> Iterator[Draft]:
    """Open a draft below `root`; whatever was not published is removed."""
    root.mkdir(parents=True, exist_ok=True)
    for abandoned in root.glob(".draft-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=".draft-", dir=root))
    directory.chmod(0o755)
    try:
        yield Draft(root, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _artifact(path: Path) -> Artifact:
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        dtype, shape = array.dtype.str, array.shape
    return Artifact(sha256=sha256_file(path), size=path.stat().st_size, dtype=dtype, shape=shape)
