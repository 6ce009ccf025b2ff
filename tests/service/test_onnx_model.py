"""One ONNX model, called: its outputs in the order asked for, and every way of failing as one error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.bundle.reader import Bundle, open_bundle
from service.bundle.signatures import FUSION
from service.bundle.store import active_version
from service.errors import ModelError
from service.onnx_model import OnnxModel


@pytest.fixture(scope="module")
def bundle(exact_bundle_root: Path) -> Bundle:
    return open_bundle(exact_bundle_root / active_version(exact_bundle_root))


def feeds(text: float = 1.0) -> dict[str, np.ndarray]:
    one = np.ones((2, 1), np.float32)
    texts, images = np.full((2, 384), text, np.float32), np.ones((2, 512), np.float32)
    return {"text": texts, "image": images, "text_present": one, "image_present": one}


def test_outputs_come_in_the_order_asked_for(bundle: Bundle) -> None:
    model = OnnxModel(bundle.model_path(FUSION))
    look, fused = model.run_all(("look", "fused"), feeds())
    np.testing.assert_array_equal(fused, model.run("fused", feeds()))
    np.testing.assert_array_equal(look, model.run("look", feeds()))
    assert fused.shape == (2, 128)
    assert not np.array_equal(look, fused)


def test_a_call_that_fails_and_a_value_that_is_not_finite_are_one_error(bundle: Bundle) -> None:
    model = OnnxModel(bundle.model_path(FUSION))
    with pytest.raises(ModelError, match=r"fusion.onnx"):
        model.run_all(("fused",), feeds() | {"text": np.ones((2, 3), np.float32)})
    with pytest.raises(ModelError, match="output 'meaning' is not finite"):
        model.run_all(("look", "meaning"), feeds(float("nan")))
