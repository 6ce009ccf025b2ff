"""What a fitted model attends to, for the report: the network's gains and sharpness, the re-ranker's shares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from training.fit_reranker import FirstStage
from training.gat import Gat, RelationAttention
from training.ranking_metrics import Ranking
from training.report.attention import Attention, Example
from training.reranker import Reranker

NETWORK = "network.json"
EXAMPLES = 3
SHOWN = 10
"""Places of the history whose share is told."""
SAMPLE = 512
"""Shoppers over whom shares are averaged."""


def save_network(directory: Path, network: Gat, relations: list[str]) -> None:
    """Write the learned scalars of the network as `network.json`."""
    sharpness = {
        name: layer.sharpness.tolist()
        for name, layer in zip(relations, network.layers, strict=True)
        if isinstance(layer, RelationAttention) and layer.heads
    }
    described = {"relations": relations, "gain": network.gain.tolist(), "sharpness": sharpness}
    (directory / NETWORK).write_text(json.dumps(described, indent=1))


@torch.no_grad()
def attention_of(
    fitted: Path, reranker: Reranker, first: FirstStage, ranking: Ranking, users: list[str], titles: list[str]
) -> Attention:
    """What `save_network` left in `fitted`, and the re-ranker's attention from the best candidate of each shopper.

    `ranking` is the re-ranked one; `users` and `titles` are ids and titles by row.
    """
    sample = Ranking(ranking.users[:SAMPLE], ranking.rows[:SAMPLE, :1])
    total, count = np.zeros(SHOWN), np.zeros(SHOWN)
    examples: list[Example] = []
    for part, inputs in first.batches(sample, 64):
        shares = reranker.score(**inputs)[1][:, 0].numpy()  # (b, L)
        mask = inputs["history_mask"].numpy()
        for at, (share, events) in enumerate(zip(shares, mask, strict=True)):
            length = int(events.sum())
            shown = min(length, SHOWN)
            if length > 1:  # of one event there is nothing to choose
                total[:shown] += share[:shown]
                count[:shown] += 1
            if 3 <= length <= SHOWN and len(examples) < EXAMPLES:
                user, candidate = int(sample.users[part][at]), int(sample.rows[part][at, 0])
                history = tuple(titles[row] for row in first.history.rows[user, :length])
                shared = tuple(float(value) for value in share[:length])
                example = Example(user=users[user], history=history, candidate=titles[candidate], shares=shared)
                examples.append(example)
    told = count > 0
    return Attention(
        **json.loads((fitted / NETWORK).read_text()),
        share_by_place={"history": tuple((total[told] / count[told]).tolist())} if told.any() else {},
        examples=tuple(examples),
    )
