"""Texts and pictures to vectors online: what the offline jobs did to the catalog, with ONNX alone.

A text goes through the bundle's own tokenizer and graph, a picture through the same decoding and framing as offline
and a graph that ends with the catalog's projection; `fusion.onnx` lays both in the space of the items.

The tokenizer's and the picture's libraries are the extra `encoders`: they are imported, and the graphs loaded, when a
text or a picture first asks for them. Encoding takes some ten milliseconds and holds no lock on the interpreter while
it computes, so callers on an event loop hand it to a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np

from service.bundle.manifest import OnlineImageEncoder, OnlineTextEncoder
from service.bundle.reader import Bundle
from service.bundle.signatures import FUSION, IMAGE_DIM, IMAGE_ENCODER, TEXT_DIM, TEXT_ENCODER
from service.content import Content, Vector
from service.errors import BundleForeignError, EncoderUnavailableError, InvalidQueryError
from service.item_texts import joined
from service.onnx_model import OnnxModel

MAX_TEXT_CHARS = 8_192
"""What is read of a text at most: far more than the encoder's tokens hold."""
LIBRARIES = {"text": "tokenizers", "image": "PIL"}
INSTALL = "Install plotpointe with the extra `encoders`"

Loaded = TypeVar("Loaded")


class TextEncoder:
    """One text encoder: a tokenizer and an ONNX graph. Loading takes a moment; calls may come from many threads."""

    def __init__(self, model: Path, tokenizer: Path, described: OnlineTextEncoder) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:
            raise BundleForeignError(
                f"the tokenizer cannot be read ({error})", where=str(tokenizer), todo="Publish the bundle again"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(described.max_tokens)
        self._described = described
        self._model = OnnxModel(model)

    def __call__(self, text: str) -> Vector:
        """(384,) unit length; zero where the encoder knows nothing of the text. Raises ModelError."""
        given = self._described.prompt + (text.lower() if self._described.lower else text)
        ids = self._tokenizer.encode(given).ids or [self._described.padding_token]
        tokens = np.array([ids], np.int32)
        vector: Vector = self._model.run("vectors", {"tokens": tokens, "mask": np.ones_like(tokens)})[0]
        return vector


class ImageEncoder:
    """One image encoder: decoding, framing and an ONNX graph. Calls may come from many threads."""

    def __init__(self, model: Path, described: OnlineImageEncoder) -> None:
        from service.image_bytes import square_pixels

        self._pixels = square_pixels
        self._side = described.side
        self._model = OnnxModel(model)

    def __call__(self, data: bytes) -> Vector:
        """(512,) unit length. Raises InvalidImageError for bytes that are no usable picture, ModelError."""
        pixels = self._pixels(data, self._side)
        vector: Vector = self._model.run("vectors", {"images": pixels[None]})[0]
        return vector


class ContentEncoders:
    """What a bundle can encode. Opening it loads nothing: most workers never need it."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._lock = threading.Lock()

    @classmethod
    def open(cls, bundle: Bundle) -> ContentEncoders:
        """The encoders of `bundle`, none of them loaded yet."""
        return cls(bundle)

    @property
    def available(self) -> frozenset[str]:
        """Which of `text` and `image` can be encoded here: in the bundle, and the library is installed."""
        held = self._bundle.manifest.online_encoders
        return frozenset(
            kind for kind, library in LIBRARIES.items() if getattr(held, kind) is not None and find_spec(library)
        )

    def item_text(self, *, title: str = "", category: str = "", brand: str = "", description: str = "") -> str:
        """The text of an item as the catalog's texts were made; empty where nothing is left of it.

        Raises EncoderUnavailableError where the bundle holds no text encoder.
        """
        parts = {"title": title, "category": category, "brand": brand, "description": description}
        return joined(parts[field] for field in self._described_text.fields)

    def text(self, text: str) -> Vector:
        """(384,) the text as the catalog's were encoded, unit length.

        Raises InvalidQueryError for a text with nothing in it, EncoderUnavailableError, ModelError.
        """
        valid = text[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode()  # JSON can carry half a character
        if not (tidy := " ".join(valid.split())):
            raise InvalidQueryError("the text is blank", where="text", todo="Send some words")
        return self._text_encoder(tidy)

    def image(self, data: bytes) -> Vector:
        """(512,) the picture as the catalog's were encoded, unit length.

        Raises InvalidImageError, EncoderUnavailableError, ModelError.
        """
        return self._image_encoder(data)

    def content(self, text: str | None, image: bytes | None) -> Content:
        """A text, a picture, or both, among the items. A blank text counts as none.

        Raises InvalidQueryError where there is neither, and what `text` and `image` raise.
        """
        given = text if text and text.strip() else None
        if given is None and image is None:
            raise InvalidQueryError("neither a text nor an image", where="content", todo="Send text, an image, or both")
        return self.fuse(None if given is None else self.text(given), None if image is None else self.image(image))

    def fuse(self, text: Vector | None, image: Vector | None) -> Content:
        """Encoder vectors (384,) and (512,), either of which may be missing, among the items. Raises ModelError."""
        fused, look, meaning = self._fusion.run_all(
            ("fused", "look", "meaning"),
            {
                "text": np.zeros((1, TEXT_DIM), np.float32) if text is None else text[None],
                "image": np.zeros((1, IMAGE_DIM), np.float32) if image is None else image[None],
                "text_present": np.full((1, 1), text is not None, np.float32),
                "image_present": np.full((1, 1), image is not None, np.float32),
            },
        )
        return Content(fused[0], look[0], meaning[0])

    @property
    def _described_text(self) -> OnlineTextEncoder:
        described = self._bundle.manifest.online_encoders.text
        if described is None:
            raise self._absent("text")
        return described

    @cached_property
    def _fusion(self) -> OnnxModel:
        return OnnxModel(self._bundle.model_path(FUSION))

    @cached_property
    def _text_encoder(self) -> TextEncoder:
        described = self._described_text
        paths = self._bundle.model_path(TEXT_ENCODER), self._bundle.tokenizer_path
        return self._load("text", lambda: TextEncoder(*paths, described))

    @cached_property
    def _image_encoder(self) -> ImageEncoder:
        described = self._bundle.manifest.online_encoders.image
        if described is None:
            raise self._absent("image")
        return self._load("image", lambda: ImageEncoder(self._bundle.model_path(IMAGE_ENCODER), described))

    def _load(self, kind: str, load: Callable[[], Loaded]) -> Loaded:
        # Two first callers at once may each load one; the last stays. The lock keeps their peaks apart.
        with self._lock:
            try:
                return load()
            except ImportError as error:
                raise EncoderUnavailableError(
                    f"no {kind} can be encoded here: the library {LIBRARIES[kind]} is not installed",
                    where=kind,
                    todo=INSTALL,
                ) from error

    def _absent(self, kind: str) -> EncoderUnavailableError:
        return EncoderUnavailableError(
            f"the bundle {self._bundle.manifest.version} holds no {kind} encoder",
            where=kind,
            todo="Publish one with an encoder that can be served: docs/ENCODERS.md says which",
        )
