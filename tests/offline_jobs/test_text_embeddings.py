import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import BaseModel

from offline_jobs import text_encoders
from offline_jobs.text_embeddings import TextEmbeddingSettings, run_text_embeddings
from offline_jobs.text_model import resolve_model
from offline_jobs.weights import fetch_weights
from service.errors import StageError
from service.item_texts import TEXT_FIELDS
from training.stage import open_stage, read_record


class NoSettings(BaseModel):
    pass


SCHEMA = dict.fromkeys(TEXT_FIELDS, pl.String)
SHOES = ("Leather ankle boots", None, None, "Warm winter boots with a rubber sole.")
ROWS = [
    SHOES,
    ("Suede winter shoes", "Shoes", None, "Lined boots for snow."),
    ("Cotton baby bodysuit", "Baby", "Acme", "Soft, with press-studs."),
    (None, None, None, None),
    SHOES,
    ("  ", None, "", None),
]


def ingest(work, rows):
    with open_stage(work, "ingest", version=1, inputs={}, settings=NoSettings()) as stage:
        pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(stage.out / "items.parquet")
    return work


@pytest.fixture(scope="module")
def minilm():
    try:
        return fetch_weights("all-MiniLM-L6-v2")
    except StageError as error:
        pytest.skip(f"the text weights cannot be fetched: {error}")


def test_wrong_model_says_what_to_give():
    with pytest.raises(StageError, match="Give a folder's path, a hub name"):
        resolve_model("/no/such/folder")


def test_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("nothing here")
    work = ingest(tmp_path / "work", ROWS)
    with pytest.raises(StageError, match="the text model cannot be loaded"):
        run_text_embeddings(TextEmbeddingSettings(model=str(tmp_path / "model")), work)
    assert not (work / "text_embeddings").exists()


@pytest.mark.weights
def test_close_texts_are_close_and_no_text_is_masked(minilm, tmp_path):
    work = ingest(tmp_path, ROWS)
    run_text_embeddings(TextEmbeddingSettings(threads=2), work)
    out = work / "text_embeddings"
    vectors, present = np.load(out / "vectors.npy"), np.load(out / "present.npy")
    assert (vectors.shape, vectors.dtype) == ((6, 384), np.float32)
    assert present.tolist() == [True, True, True, False, True, False]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), present.astype(float), atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    np.testing.assert_array_equal(vectors[0], vectors[4])  # the same text, encoded once
    record = read_record(out)
    assert record.counts == {"items": 6, "present": 4, "no_text": 2, "distinct_texts": 3}
    encoder = json.loads((out / "encoder.json").read_text())
    assert encoder["sha256"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert (encoder["name"], encoder["width"]) == ("all-MiniLM-L6-v2", 384)
    assert encoder["backend"] == "torch" if torch.cuda.is_available() else "onnxruntime"

    before = (out / "stage.json").stat().st_mtime_ns
    run_text_embeddings(TextEmbeddingSettings(threads=1), work)
    assert (out / "stage.json").stat().st_mtime_ns == before, "unchanged: skipped, whatever the threads"


@pytest.mark.weights
def test_bf16_agrees_with_fp32_and_a_cut_text_with_its_start(minilm, tmp_path):
    long = ("Wool coat", None, None, " ".join(f"word{i}" for i in range(300)))
    work = ingest(tmp_path, [*ROWS, long])
    tables = []
    for precision, tokens in (("fp32", 128), ("bf16", 128), ("fp32", 256)):
        run_text_embeddings(TextEmbeddingSettings(model=str(minilm), precision=precision, max_tokens=tokens), work)
        tables.append(np.load(work / "text_embeddings" / "vectors.npy"))
    fp32, bf16, longer = tables
    present = np.linalg.norm(fp32, axis=1) > 0
    assert ((fp32 * bf16).sum(1)[present] > 0.999).all()
    np.testing.assert_allclose(fp32[:6], longer[:6], atol=1e-5)
    assert (fp32[6] * longer[6]).sum() < 0.9999, "the longer limit sees more of the long text"


def count_encoded(monkeypatch):
    """The sizes of the shards that are encoded from here on."""
    encoded, whole = [], text_encoders.TextTokenizer.batches
    monkeypatch.setattr(
        text_encoders.TextTokenizer,
        "batches",
        lambda self, texts, tokens: (encoded.append(len(texts)), whole(self, texts, tokens))[1],
    )
    return encoded


@pytest.mark.weights
@pytest.mark.parametrize("backend", ["onnx-int8", "torch"])
def test_killed_run_encodes_no_finished_shard_again_and_ends_with_the_same_bytes(
    minilm, tmp_path, monkeypatch, backend
):
    rows = [(f"Shirt number {i} with {i % 7} buttons", "Shirts", None, "x" * (i % 50)) for i in range(160)]
    work, whole = ingest(tmp_path / "killed", rows), ingest(tmp_path / "whole", rows)
    settings = TextEmbeddingSettings(backend=backend, batch_tokens=64, shard_size=8, threads=1)
    script = (
        "import sys; from pathlib import Path; from offline_jobs.text_embeddings import *;"
        f"run_text_embeddings(TextEmbeddingSettings.model_validate_json({settings.model_dump_json()!r}),"
        "Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(work)], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(work.glob(".scratch/*/shard-00002.npz")):
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (work / "text_embeddings").exists()
    finished = len(list(work.glob(".scratch/*/shard-*.npz")))
    assert 3 <= finished < 20
    encoded = count_encoded(monkeypatch)
    run_text_embeddings(settings, work)
    assert encoded == [8] * (20 - finished)
    run_text_embeddings(settings.model_copy(update={"threads": 2}), whole)
    killed, unbroken = read_record(work / "text_embeddings"), read_record(whole / "text_embeddings")
    assert killed.outputs == unbroken.outputs
    assert not list(work.glob(".scratch/text_embeddings-*"))


@pytest.mark.weights
def test_fields_choose_what_is_encoded(minilm, tmp_path):
    work = ingest(
        tmp_path, [("Wool coat", None, "Acme", "Warm"), ("Wool coat", None, "Other", "Cold"), (None, "x", "y", "z")]
    )
    run_text_embeddings(TextEmbeddingSettings(fields="title"), work)
    record = read_record(work / "text_embeddings")
    assert record.counts == {"items": 3, "present": 2, "no_text": 1, "distinct_texts": 1}
