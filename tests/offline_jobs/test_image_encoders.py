import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from pydantic import BaseModel

from offline_jobs.image_embeddings import ImageEmbeddingSettings, choose_encoder, run_image_embeddings
from offline_jobs.image_encoders import ClipWeights
from offline_jobs.torchvision_cpu import mend_torchvision
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
        ({"encoder": "open_clip"}, "open_clip needs weights"),
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
