"""Every backend gives what sentence-transformers itself gives, on real weights and on a multilingual architecture."""

import json
import math
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from offline_jobs.compute import resolve_compute
from offline_jobs.text_encoders import Compute, load_encoder, resolve_backend, shard_encoder
from offline_jobs.text_graph import quantised, why_not
from offline_jobs.text_model import TextTokenizer
from offline_jobs.torchvision_cpu import mend_torchvision
from offline_jobs.weights import fetch_weights
from service.errors import InputError, StageError
from training.threads import torch_threads

TEXTS = [
    "Wool coat",
    "Acme stainless steel kettle, 1.7 l, with a lid that stays cool. " * 6,
    "Größe M: Señora crème brûlée",
    "日本製のやかん",
    "Łódź Ελλάδα чайник غلاية",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "USB-C cable 2 m (pack of 3)",
]
TORCH, FP32, INT8 = Compute("torch", "cpu", "fp32"), Compute("onnx", "cpu", "fp32"), Compute("onnx", "cpu", "int8")


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def minilm():
    try:
        return fetch_weights("all-MiniLM-L6-v2")
    except StageError as error:
        pytest.skip(f"the text weights cannot be fetched: {error}")


def pieces_of(texts):
    """Every character and the commonest pairs, with log frequencies: a trainer's pieces differ from run to run."""
    words = ["▁" + word for text in texts for word in unicodedata.normalize("NFKC", text).split()]
    count = Counter(character for word in words for character in word)
    pairs = Counter(pair for word in words for pair in map("".join, pairwise(word)))
    count |= dict(sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:60])
    total = sum(count.values())
    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    return special + [(piece, math.log(n / total)) for piece, n in sorted(count.items())]


def make_model(folder, *, kind, pooling):
    """A sentence-transformers folder with a tokenizer of many scripts (Unigram, as XLM-R's) and seeded weights.

    `bert` is the architecture of paraphrase-multilingual-MiniLM-L12-v2 and multilingual-e5-small, `xlm-roberta` that
    of the larger ones; 2 layers where they have 12.
    """
    mend_torchvision()
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces_of(TEXTS), unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder.mkdir()
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<s>"}
    names |= {"sep_token": "</s>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)
    sizes = {"vocab_size": tokenizer.get_vocab_size(), "hidden_size": 384, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 12, "intermediate_size": 768, "max_position_embeddings": 70}
    torch.manual_seed(7)
    config, model = {
        "bert": (transformers.BertConfig, transformers.BertModel),
        "xlm-roberta": (transformers.XLMRobertaConfig, transformers.XLMRobertaModel),
    }[kind]
    network = model(config(**sizes, pad_token_id=1, initializer_range=0.2, type_vocab_size=1))
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, "do_lower_case": False}))
    (folder / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{mode}": mode == pooling for mode in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 384, **modes}))
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
                for i, (path, name) in enumerate(parts)
            ]
        )
    )
    return folder


@pytest.fixture(scope="module", params=[("bert", "mean_tokens"), ("xlm-roberta", "cls_token")], ids="-".join)
def multilingual(request, tmp_path_factory):
    kind, pooling = request.param
    return make_model(tmp_path_factory.mktemp("models") / kind, kind=kind, pooling=pooling)


def own_encode(folder, max_tokens):
    """What sentence-transformers gives for TEXTS, by its own tokenizer, batches and pooling, in fp32."""
    mend_torchvision()
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.max_seq_length = max_tokens
    return model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)


def vectors_of(folder, compute, max_tokens, batch_tokens=200):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        tokenizer = TextTokenizer(folder, max_tokens)
        encode = shard_encoder(load_encoder(folder, compute), tokenizer, TEXTS, pool, batch_tokens)
        return encode(0, len(TEXTS), lambda done: None)[0]


@pytest.mark.weights
@pytest.mark.parametrize("max_tokens", [16, 128])
@pytest.mark.parametrize("compute", [TORCH, FP32], ids=["torch", "onnx"])
def test_fp32_is_what_sentence_transformers_gives(minilm, compute, max_tokens):
    np.testing.assert_allclose(vectors_of(minilm, compute, max_tokens), own_encode(minilm, max_tokens), atol=2e-6)


@pytest.mark.weights
@pytest.mark.parametrize("precision", ["int8", "int8-7bit"])
def test_int8_is_close_to_fp32(minilm, precision):
    cosine = (vectors_of(minilm, Compute("onnx", "cpu", precision), 128) * own_encode(minilm, 128)).sum(1)
    assert cosine.mean() > 0.985
    assert cosine.min() > 0.97
    assert cosine.max() < 0.99999, "int8 is not fp32: the graph was not quantised"


def test_a_multilingual_model_is_the_same_in_every_backend(multilingual):
    own = own_encode(multilingual, 64)
    assert len(np.unique(own.round(4), axis=0)) == len(TEXTS)
    assert why_not(multilingual) is None
    np.testing.assert_allclose(vectors_of(multilingual, TORCH, 64), own, atol=1e-5)
    np.testing.assert_allclose(vectors_of(multilingual, FP32, 64), own, atol=1e-5)
    assert (vectors_of(multilingual, INT8, 64) * own).sum(1).mean() > 0.98


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_batches_hold_every_text_once_and_little_padding(multilingual, batch_tokens):
    batches = TextTokenizer(multilingual, 64).batches(TEXTS, batch_tokens)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(TEXTS)))
    assert all(batch.tokens.shape == batch.mask.shape for batch in batches)
    assert all(batch.tokens.size <= batch_tokens or len(batch.rows) == 1 for batch in batches)
    longest = [batch.tokens.shape[1] for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert max(longest) == 64, "the longest text is cut"
    assert all((batch.mask[:, 0] == 1).all() and (batch.tokens[batch.mask == 0] == 1).all() for batch in batches)


def test_auto_is_int8_where_the_model_has_a_graph_and_torch_elsewhere(multilingual, tmp_path):
    on, _ = resolve_compute("auto", "auto")
    chosen = resolve_backend("auto", multilingual, "cpu", "auto")
    assert (chosen.backend, chosen.precision[:4]) == ("onnx", "int8")
    assert resolve_backend("auto", multilingual, "auto", "auto").backend == ("onnx" if on == "cpu" else "torch")
    assert resolve_backend("auto", multilingual, "cpu", "fp32") == TORCH
    assert resolve_backend("onnx-fp32", multilingual, "cpu", "auto") == FP32
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mpnet"}))
    assert resolve_backend("auto", tmp_path, "cpu", "auto").backend == "torch"
    with pytest.raises(StageError, match=r"no graph for onnx-int8: its type is 'mpnet'.*Use backend=torch"):
        resolve_backend("onnx-int8", tmp_path, "cpu", "auto")
    with pytest.raises(InputError, match="precision of its own"):
        resolve_backend("onnx-int8", multilingual, "cpu", "bf16")


def test_quantised_weights_are_within_half_a_step():
    weight = np.random.default_rng(0).normal(size=(64, 9)).astype(np.float32) * np.arange(9, dtype=np.float32)
    for bits, top in ((8, 127), (7, 63)):
        small, scale = quantised(weight, bits)
        assert np.abs(small).max() == top
        assert (np.abs(small * scale - weight) <= scale / 2 + 1e-6).all()
