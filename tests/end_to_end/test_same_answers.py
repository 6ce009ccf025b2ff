"""What the bundle answers through the service's own stages is what a run's tables answer: no skew between the two."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from service.cache import AnswerCache
from service.domain import Query, Strategy
from service.generation import open_generation
from service.memory_cache import MemoryCache
from service.recommend import Recommender, Work
from service.selection import Selections
from training.dataset import load_interactions

pytestmark = pytest.mark.timeout(900)
K = 20


def no_cache(_):
    return AnswerCache(MemoryCache(max_entries=1, ttl_seconds=1), None, lambda tier, result: None)


def train_command(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_topk_of_a_run_equals_what_its_bundle_serves(built, tmp_path):
    out = tmp_path / "top.parquet"
    done = train_command("topk", "--run", built.work.parent, "--users", "all", "--k", K, "--out", out)
    assert done.returncode == 0, done.stderr
    top = pl.read_parquet(out)
    assert top.columns == ["user_id", "item_id", "rank", "score"]
    generation = open_generation(built.bundle, num_candidates=None, cache=no_cache)
    recommender = Recommender(Selections(), rerank_budget_s=None, observe_stage=lambda stage, seconds: None)
    seen = load_interactions(built.work).matrix()
    shared, compared = 0.0, 0
    for (user_id,), table in top.group_by(["user_id"], maintain_order=True):
        assert table["rank"].to_list() == list(range(1, K + 1))
        assert (np.diff(table["score"].to_numpy()) <= 0).all()
        row = generation.shoppers.row(user_id)
        rows = [generation.row(item_id) for item_id in table["item_id"]]
        assert not set(rows) & set(seen[row].indices)
        work = Work(Query(user_id, K, "test"), generation.catalog, row)
        (answer,) = recommender.answers(generation, [work])
        if answer.strategy is not Strategy.PERSONAL:
            continue
        compared += 1
        shared += len(set(answer.rows) & set(rows)) / K
        # The index is approximate: a candidate that it misses changes the shares of all others a little.
        np.testing.assert_allclose(answer.scores, table["score"].to_numpy(), atol=0.05)
    assert compared > 500
    assert shared / compared > 0.99


def test_some_users_some_items_and_strangers(built, tmp_path):
    users = pl.read_parquet(built.work / "ingest" / "users.parquet")["user_id"].to_list()[:3]
    items = pl.read_parquet(built.work / "ingest" / "items.parquet")["item_id"].to_list()[:30]
    (tmp_path / "users.txt").write_text("\n".join([*users, "nobody", users[0], ""]))
    pl.DataFrame({"item_id": [*items, "no such thing"]}).write_csv(tmp_path / "items.csv")
    arguments = ("topk", "--run", built.work.parent, "--users", tmp_path / "users.txt", "--k", 5)
    outs = [tmp_path / name for name in ("one.parquet", "two.parquet")]
    for out in outs:
        done = train_command(*arguments, "--items", tmp_path / "items.csv", "--out", out)
        assert done.returncode == 0, done.stderr
    assert outs[0].read_bytes() == outs[1].read_bytes()
    top = pl.read_parquet(outs[0])
    assert top["user_id"].unique(maintain_order=True).to_list() == [*users, "nobody"]
    assert set(top["item_id"]) <= set(items)

    pairs = pl.DataFrame({"user_id": [users[0], "nobody", users[0]], "item_id": [items[3], items[4], "no such thing"]})
    pairs.write_csv(tmp_path / "pairs.csv")
    done = train_command("score", "--run", built.work.parent, "--pairs", tmp_path / "pairs.csv", "--out", outs[1])
    assert done.returncode == 0, done.stderr
    scored = pl.read_parquet(outs[1])
    assert scored.drop("score").equals(pairs)
    assert scored["score"].is_null().to_list() == [False, False, True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("topk", "--users", "missing.txt"), "missing.txt: no such file"),
        (("topk", "--k", "0"), "--k: 0 items a user"),
        (("topk", "--items", "empty.csv"), "empty.csv: no column item_id"),
        (("score", "--pairs", "empty.csv"), "empty.csv: no column user_id"),
    ],
)
def test_bad_input_is_named(built, tmp_path, arguments, said):
    (tmp_path / "empty.csv").write_text("a,b\n")
    arguments = [str(tmp_path / part) if "." in str(part) else part for part in arguments]
    done = train_command(*arguments, "--run", built.work.parent, "--out", tmp_path / "out.parquet")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out.parquet").exists()
