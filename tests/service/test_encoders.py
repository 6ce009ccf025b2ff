"""Texts and pictures online, in the planted bundle, where what is right is known."""

from __future__ import annotations

import builtins
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.content import Content
from service.encoders import ContentEncoders
from service.errors import EncoderUnavailableError, InvalidImageError, InvalidQueryError

GOLDEN_V1 = Path(__file__).parents[1] / "golden" / "v1"


@pytest.fixture(scope="module")
def bundle(exact_bundle_root: Path) -> Bundle:
    return open_bundle(exact_bundle_root / active_version(exact_bundle_root))


@pytest.fixture(scope="module")
def encoders(bundle: Bundle) -> ContentEncoders:
    return ContentEncoders.open(bundle)


def photo(planted: ModuleType, cluster: int, kind: str = "PNG") -> bytes:
    out = BytesIO()
    Image.new("RGB", (64, 64), planted.rgb_of(cluster)).save(out, kind)
    return out.getvalue()


def nearest_cluster(world: Any, table: Any, vector: Any) -> int:
    return int(world.cluster[int(np.argmax(table @ vector))])


def test_a_word_is_near_the_items_of_its_cluster(planted: ModuleType, world: Any, encoders: ContentEncoders) -> None:
    for cluster, word in enumerate(planted.WORDS):
        content = encoders.content(f"a {word.upper()} thing", None)
        assert nearest_cluster(world, world.meaning, content.meaning) == cluster
        assert nearest_cluster(world, world.content, content.fused) == cluster
        assert not content.look.any()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_colour_is_near_the_items_of_its_cluster(
    planted: ModuleType, world: Any, encoders: ContentEncoders, kind: str
) -> None:
    for cluster in range(planted.CLUSTERS):
        content = encoders.content(None, photo(planted, cluster, kind))
        assert nearest_cluster(world, world.look, content.look) == cluster
        assert nearest_cluster(world, world.content, content.fused) == cluster
        assert not content.meaning.any()


def test_text_and_image_together_are_between_both(planted: ModuleType, encoders: ContentEncoders) -> None:
    both = encoders.content(planted.WORDS[2], photo(planted, 5))
    text, image = encoders.content(planted.WORDS[2], None), encoders.content(None, photo(planted, 5))
    np.testing.assert_allclose(both.meaning, text.meaning, atol=1e-6)
    np.testing.assert_allclose(both.look, image.look, atol=1e-6)
    assert min(both.fused @ text.fused, both.fused @ image.fused) > 0.6
    assert both.fused @ both.fused == pytest.approx(1, abs=1e-5)


def test_vectors_have_the_shapes_of_the_bundle(planted: ModuleType, encoders: ContentEncoders) -> None:
    text, image = encoders.text("jade"), encoders.image(photo(planted, 0))
    assert (text.shape, text.dtype, image.shape, image.dtype) == ((384,), np.float32, (512,), np.float32)
    content = encoders.fuse(text, image)
    assert isinstance(content, Content)
    assert {content.fused.shape, content.look.shape, content.meaning.shape} == {(128,)}


def test_blank_is_nothing(planted: ModuleType, encoders: ContentEncoders) -> None:
    with pytest.raises(InvalidQueryError, match="the text is blank"):
        encoders.text(" \n ")
    with pytest.raises(InvalidQueryError, match="neither a text nor an image"):
        encoders.content("  ", None)
    blank = encoders.content("", photo(planted, 3))
    assert not blank.meaning.any()


def test_a_broken_picture_is_refused_even_beside_a_text(encoders: ContentEncoders) -> None:
    with pytest.raises(InvalidImageError):
        encoders.content("jade", b"GIF89a")


def test_a_text_of_any_length_takes_no_longer_than_a_long_one(planted: ModuleType, encoders: ContentEncoders) -> None:
    endless = encoders.text("amber " * 1_000_000)
    np.testing.assert_allclose(endless, encoders.text("amber"), atol=1e-6)
    assert encoders.text("\ud800 jade \x00").shape == (384,)


def test_an_item_s_text_has_the_fields_of_the_catalog(encoders: ContentEncoders) -> None:
    assert encoders.item_text(title="Cap.", brand=" Acme ", description="Wool") == "Cap. Acme. Wool"
    assert encoders.item_text() == ""


def test_many_threads_may_ask_at_once(planted: ModuleType, bundle: Bundle) -> None:
    fresh = ContentEncoders.open(bundle)
    asked = [(planted.WORDS[n % 12], photo(planted, n % 12)) for n in range(48)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda pair: fresh.content(*pair), asked))
    for n, content in enumerate(found):
        np.testing.assert_allclose(content.fused, found[n % 12].fused, atol=1e-6)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_bundle_without_encoders_says_so(planted: ModuleType, kind: str) -> None:
    without = ContentEncoders.open(open_bundle(GOLDEN_V1 / active_version(GOLDEN_V1)))
    assert without.available == frozenset()
    calls = {"text": lambda: without.content("jade", None), "image": lambda: without.content(None, photo(planted, 0))}
    with pytest.raises(EncoderUnavailableError, match=f"holds no {kind} encoder") as refused:
        calls[kind]()
    assert refused.value.where == kind
    assert "Publish" in refused.value.todo


@pytest.mark.parametrize(("kind", "library"), [("text", "tokenizers"), ("image", "PIL")])
def test_a_library_that_is_not_installed_is_named(
    planted: ModuleType, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, kind: str, library: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == library or (library == "PIL" and name == "service.image_bytes"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    encoders = ContentEncoders.open(bundle)
    calls = {"text": lambda: encoders.content("jade", None), "image": lambda: encoders.content(None, photo(planted, 0))}
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EncoderUnavailableError, match=f"the library {library} is not installed") as refused:
        calls[kind]()
    assert "extra `encoders`" in refused.value.todo
    monkeypatch.undo()
    assert calls[kind]().fused.any()
    assert encoders.available == {"text", "image"}
