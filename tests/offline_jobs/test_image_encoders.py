import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from pydantic import BaseModel

from offline_jobs.clip_encoder import ClipWeights
from offline_jobs.image_embeddings import run_image_embeddings
from offline_jobs.image_encoders import OFFLINE, SIDE, fitted, imagenet_pixels
from offline_jobs.image_settings import ImageEmbeddingSettings, choose_encoder
from offline_jobs.inverted_residuals import EFFICIENTNET_LITE0, MOBILENET_V2, read_state
from offline_jobs.torchvision_cpu import mend_torchvision
from offline_jobs.weights import fetch_weights
from service.errors import InputError, StageError
from training.stage import open_stage, read_record


class NoSettings(BaseModel):
    pass


def ingest(work, references):
    with open_stage(work, "ingest", version=1, inputs={}, settings=NoSettings()) as stage:
        pl.DataFrame({"image": references}).write_parquet(stage.out / "items.parquet")
    return work


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"encoder": "clip"}, "clip needs weights"),
        ({"encoder": "resnet18", "clip_weights": "x"}, "clip_weights is given but"),
        ({"clip_weights": "no-such-tag"}, "open_clip's tags are .*laion2b_s34b_b79k"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(settings, says):
    with pytest.raises((InputError, StageError), match=says):
        choose_encoder(ImageEmbeddingSettings(**settings))


def test_pickled_clip_weights_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "clip.pt")
    with pytest.raises(StageError, match="only safetensors"):
        ClipWeights(str(tmp_path / "clip.pt"))


def test_open_clip_with_its_real_architecture_and_seeded_weights(tmp_path):
    mend_torchvision()
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=None)
    path = tmp_path / "clip.safetensors"
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, path)
    data = tmp_path / "data"
    data.mkdir()
    for number, name in enumerate(("a.jpg", "b.jpg")):
        Image.effect_noise((96, 64), 40 + number).convert("RGB").save(data / name)
    (data / "broken.jpg").write_bytes(b"broken")
    work = ingest(tmp_path / "work", ["a.jpg", "b.jpg", "broken.jpg"])
    run_image_embeddings(ImageEmbeddingSettings(clip_weights=str(path), precision="fp32"), data, work)

    model.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    with torch.inference_mode():
        pixels = torch.stack([transform(Image.open(data / name)) for name in ("a.jpg", "b.jpg")])
        expected = torch.nn.functional.normalize(model.eval().encode_image(pixels)).numpy()
    found = np.load(work / "image_embeddings" / "vectors.npy")
    np.testing.assert_allclose(found[:2], expected, atol=2e-5)
    assert not found[2].any()
    assert read_record(work / "image_embeddings").counts["unreadable"] == 1
    encoder = json.loads((work / "image_embeddings" / "encoder.json").read_text())
    assert (encoder["name"], encoder["source"], encoder["precision"]) == ("ViT-B-32", "local file", "fp32")
    assert encoder["projection"] is None
    assert not (work / "image_embeddings" / "projection.npz").exists()

    cut = tmp_path / "cut.safetensors"
    save_file({"logit_scale": torch.zeros(())}, cut)
    with pytest.raises(StageError, match="open_clip cannot load these weights"):
        run_image_embeddings(ImageEmbeddingSettings(clip_weights=str(cut)), data, work)


def test_torchvision_imports_in_a_fresh_process_once_mended():
    code = (
        "from offline_jobs.torchvision_cpu import mend_torchvision; first = mend_torchvision();"
        "import torchvision, torch; assert mend_torchvision() is first;"
        "assert str(torch.ops.torchvision.nms.default._schema).endswith('float iou_threshold) -> Tensor')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "network", "model"),
    [
        ("mobilenetv2", MOBILENET_V2, "torchvision mobilenet_v2"),
        ("efficientnet-lite0", EFFICIENTNET_LITE0, "timm tf_efficientnet_lite0"),
    ],
)
def test_the_built_graph_is_the_published_network(name, network, model):
    try:
        folder = fetch_weights(OFFLINE[name].weights)
    except StageError as error:
        pytest.skip(str(error))
    mend_torchvision()
    state = read_state(folder / network.file, network.sha256)
    if model.startswith("torchvision"):
        import torchvision

        published = torchvision.models.mobilenet_v2()
        features = published.features
    else:
        import timm

        published = timm.create_model(model.removeprefix("timm "), pretrained=False)
        features = published.forward_features
    published.load_state_dict(dict(zip(published.state_dict(), state.values(), strict=True)))
    published.eval()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (2, SIDE, SIDE, 3), dtype=np.uint8)
    scaled = (pixels / 255 - np.array(network.mean)) / np.array(network.std)
    with torch.inference_mode():
        expected = features(torch.from_numpy(scaled.transpose(0, 3, 1, 2)).float()).mean((2, 3)).numpy()
    found = OFFLINE[name].load(folder, "cpu").encode(pixels)
    assert found.shape == (2, 1280)
    np.testing.assert_allclose(found**2, expected, atol=1e-4)
    assert expected.max() > 1


def test_a_changed_torch_file_is_not_opened(tmp_path):
    (tmp_path / MOBILENET_V2.file).write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(StageError, match="sha256 is not the pinned one"):
        OFFLINE["mobilenetv2"].load(tmp_path, "cpu")
    with pytest.raises(StageError, match=r"resnet18\.onnx: the image encoder cannot be loaded"):
        OFFLINE["resnet18"].load(tmp_path, "cpu")


@pytest.mark.parametrize("size", [(64, 64), (300, 100), (2000, 3), (3, 2000), (1, 1), (224, 224)])
def test_the_whole_picture_is_fitted_in_the_middle_of_white(size):
    square = np.asarray(fitted(Image.new("RGB", size, "red"), SIDE))
    assert square.shape == (SIDE, SIDE, 3)
    red = (square == (255, 0, 0)).all(axis=2)
    white = (square == (255, 255, 255)).all(axis=2)
    assert (red | white).all()
    height, width = red.any(axis=1).sum(), red.any(axis=0).sum()
    assert (width, height) == tuple(max(1, round(side * SIDE / max(size))) for side in size)
    np.testing.assert_array_equal(red.any(axis=1)[::-1], np.roll(red.any(axis=1), (SIDE - height) % 2))


def test_pixels_are_normalised_as_torchvision_does():
    pixels = np.random.default_rng(0).integers(0, 255, (2, 5, 5, 3), dtype=np.uint8)
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = imagenet_pixels(pixels)
    assert (found.dtype, found.shape, found.flags.c_contiguous) == (np.float32, (2, 3, 5, 5), True)
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-5)
