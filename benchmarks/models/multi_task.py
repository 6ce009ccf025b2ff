"""Click and ranking heads on logged slates of the generated shop, where the true preference is known.

    python benchmarks/models/multi_task.py --seeds 5 --out var/bench/multi_task.jsonl

The shop has planted tastes. A candidate, once looked at, is clicked with σ of -1.8, 2.6 in the cluster of the planted
taste, 1.0 in a cluster of the same kind of thing, .8 times the item's hidden quality, and -.9 times the distance of
price from what the shopper spends. The features are what a re-ranker knows: EASE's score, likeness to the history
(best and mean), popularity, kind of thing in common with the history, a rating (quality with noise), distance from
the mean price paid, length of the history. The old policy orders ten of fifty candidates by EASE and popularity with
noise; the n-th place is looked at with probability n^-.7. Every arm sees the same log. `test` slates are judged as the
log is; NDCG@10 of all fifty candidates uses the true preference as gain.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from scipy.stats import t

from offline_jobs.generated_plan import plan_themes, plan_world
from offline_jobs.generated_settings import GeneratedShopSettings
from training.baselines import ease, item_knn
from training.extended.click_metrics import calibration_error, graded_ndcg, log_loss
from training.extended.impressions import Impressions, clicked
from training.extended.multi_task_export import export_multi_task, hard_cases
from training.extended.multi_task_fit import MultiTaskSettings, fit_multi_task, judge_log, predict

CANDIDATES, PLACES, TEST = 50, 10, 4000
SLATES = (1000, 8000)
"""Sizes of log to fit on, an eighth more to choose the epochs."""
EXAMINATION = np.arange(1, PLACES + 1) ** -0.7
ARMS: Mapping[str, Mapping[str, object]] = {
    "click alone": {"heads": "click"},
    "ranking alone": {"heads": "rank"},
    "both": {"heads": "both"},
    "both, ranking weight 1": {"heads": "both", "rank_weight": 1.0},
    "both, blind to the place": {"heads": "both", "debias": False},
}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Requests:
    """What shoppers could have been shown, what was, and what they like."""

    features: npt.NDArray[np.float32]
    """(n, CANDIDATES, F)"""
    preference: Floats
    """(n, CANDIDATES) probability of a click once looked at."""
    shown: npt.NDArray[np.int64]
    """(n, PLACES) the old policy's slate, in its order."""
    log: Impressions

    def where(self, part: slice) -> Requests:
        return Requests(self.features[part], self.preference[part], self.shown[part], self.log.where(part))


def requests(count: int, seed: int) -> Requests:
    """`count` requests of one generated shop. The same seed gives the same shop, requests and clicks."""
    settings = GeneratedShopSettings(items=1800, users=3000, seed=seed)
    shop, noun = plan_world(settings), plan_themes(settings).noun
    rng = np.random.default_rng([seed, 7])
    ones = np.ones(len(shop.user), np.float32)
    bought = sp.csr_matrix((ones, (shop.user, shop.item)), (settings.users, settings.items))
    quality, price = rng.normal(size=settings.items), rng.normal(size=settings.items)
    spends = rng.normal(size=settings.users) * 0.7
    rating = quality + 0.7 * rng.normal(size=settings.items)
    popularity = np.log(np.asarray(bought.sum(0)).ravel() + 0.3)
    everyone = np.arange(settings.users)
    linear, near = ease(bought)(everyone).clip(min=0), item_knn(bought)(everyone)
    kind = noun[shop.cluster_of_item]
    kinds = sp.csr_matrix((ones, (shop.user, kind[shop.item])), (settings.users, int(noun.max()) + 1)).toarray()
    length = np.asarray(bought.sum(1)).ravel()
    paid = np.asarray(bought @ price).ravel() / np.maximum(length, 1)

    user = rng.integers(0, settings.users, count)[:, None]
    score = linear + 0.05 * popularity
    noisy = score[user[:, 0]] + 0.15 * rng.gumbel(size=(count, settings.items))
    noisy[bought[user[:, 0]].nonzero()] = -np.inf
    item = np.argpartition(-noisy, CANDIDATES, axis=1)[:, :CANDIDATES]
    own = shop.cluster_of_user[user] == shop.cluster_of_item[item]
    taste = shop.cluster_of_user[user]
    alike = (taste >= 0) & (noun[np.maximum(taste, 0)] == kind[item]) & ~own
    apart = np.abs(price[item] - spends[user])
    preference = 1 / (1 + np.exp(1.8 - 2.6 * own - 1.0 * alike - 0.8 * quality[item] + 0.9 * apart))
    features = np.stack(
        [
            linear[user, item],
            near[user, item],
            near[user, item] / np.maximum(length[user], 1),
            popularity[item],
            kinds[user, kind[item]] / np.maximum(length[user], 1),
            rating[item],
            np.abs(price[item] - paid[user]),
            np.log1p(np.broadcast_to(length[user], item.shape)),
        ],
        -1,
    ).astype(np.float32)
    old = score[user, item] + 0.1 * rng.gumbel(size=item.shape)
    shown = np.argsort(-old, axis=1, kind="stable")[:, :PLACES]
    slate = np.take_along_axis(features, shown[..., None], 1)
    place = np.tile(np.arange(PLACES), (count, 1))
    click = clicked(np.take_along_axis(preference, shown, 1), EXAMINATION, rng)
    return Requests(features, preference, shown, Impressions(slate, place, click))


def judge(settings: MultiTaskSettings, train: Requests, validation: Requests, test: Requests) -> dict[str, float]:
    """Fit one arm; every figure of it, NaN-free: heads that did not learn say nothing."""
    model, curves = fit_multi_task(train.log, validation.log, settings)
    probability, score = predict(model, test.features)
    found = judge_log(model, test.log, settings)
    top = np.take_along_axis(probability, test.shown, 1)
    liked = np.take_along_axis(test.preference, test.shown, 1)
    out: dict[str, float] = {"epochs": curves.best_epochs}
    if settings.heads != "rank":
        out |= {
            "log_loss": found["log_loss"],
            "ece": found["calibration_error"],
            "ece_at_top": calibration_error(top, liked),
            "log_loss_at_top": log_loss(top, liked),
            "gauc_click": found["gauc_click"],
            "ndcg_click": float(graded_ndcg(probability, test.preference, k=10).mean()),
        }
    if settings.heads != "click":
        out |= {
            "gauc_rank": found["gauc_rank"],
            "ndcg_rank": float(graded_ndcg(score, test.preference, k=10).mean()),
        }
    if settings.heads == "both":
        blend = np.log(probability) + score
        out["ndcg_blend"] = float(graded_ndcg(blend, test.preference, k=10).mean())
    with tempfile.TemporaryDirectory() as folder:
        out["onnx_parity"] = export_multi_task(model, Path(folder) / "model.onnx", hard_cases(test.log))
    return out


def floor(test: Requests) -> dict[str, float]:
    """What the old policy's own score and perfect knowledge reach."""
    first = test.features[..., 0] + 0.05 * test.features[..., 3]
    liked = np.take_along_axis(test.preference, test.shown, 1)
    true = liked * EXAMINATION
    return {
        "click_rate": float(test.log.click.mean()),
        "ndcg_old": float(graded_ndcg(first, test.preference, k=10).mean()),
        "log_loss_true": log_loss(true, test.log.click),
        "ece_true": calibration_error(true, test.log.click),
        "log_loss_at_top_true": log_loss(liked, liked),
    }


def described(values: list[float]) -> str:
    """Mean and half of the 95 % t-interval over seeds."""
    each = np.array(values)
    if len(each) < 2:
        return f"{each.mean():.4f}"
    return f"{each.mean():.4f} ± {t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)):.4f}"


def main() -> None:
    """Fit every arm for every size of log and seed that `--out` lacks, and print means with intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="one JSON line an arm; a run that was stopped goes on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["arm"], row["slates"], row["seed"]) for row in rows}
    for seed in range(given.seeds):
        wanted = [("floor", 0), *((arm, slates) for slates in SLATES for arm in ARMS)]
        if all((*each, seed) in done for each in wanted):
            continue
        world = requests(max(SLATES) * 9 // 8 + TEST, seed)
        test, rest = world.where(slice(0, TEST)), world.where(slice(TEST, None))
        for arm, slates in wanted:
            if (arm, slates, seed) in done:
                continue
            if arm == "floor":
                figures = floor(test)
            else:
                train, validation = rest.where(slice(0, slates)), rest.where(slice(slates, slates * 9 // 8))
                figures = judge(MultiTaskSettings.model_validate({**ARMS[arm], "seed": seed}), train, validation, test)
            rows.append({"arm": arm, "slates": slates, "seed": seed, **figures})
            with given.out.open("a") as file:
                print(json.dumps(rows[-1]), file=file)
    _print(rows)


def _print(rows: list[dict[str, object]]) -> None:
    groups = sorted({(str(row["arm"]), int(str(row["slates"]))) for row in rows}, key=lambda g: (g[1], g[0]))
    both = {(row["slates"], row["seed"]): row for row in rows if row["arm"] == "both"}
    for arm, slates in groups:
        mine = [row for row in rows if (row["arm"], row["slates"]) == (arm, slates)]
        print(f"\n{arm}, {slates} slates")
        for name in [name for name in mine[0] if name not in ("arm", "slates", "seed")]:
            text = described([float(str(row[name])) for row in mine])
            other = [both.get((row["slates"], row["seed"]), {}) for row in mine]
            if arm != "both" and name != "onnx_parity" and all(name in row for row in other):
                pairs = zip(other, mine, strict=True)
                text += f"   both minus this {described([float(str(b[name])) - float(str(m[name])) for b, m in pairs])}"
            print(f"  {name:<22}{text}")


if __name__ == "__main__":
    main()
