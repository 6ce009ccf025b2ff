"""Learning from logged propensities on the generated shop, where the true value of every policy is known.

    python benchmarks/models/off_policy.py --out /tmp/off_policy.json

The shop has planted tastes. An action is the best-selling item of a cluster. A shopper clicks it with probability
.02, .30 more in the cluster of the planted taste, and .2 more for each share of the other purchases that lies there.
The context is what the shop knows: the shares of the shopper's first three purchases by cluster. The logging policy
follows popularity and a little of the context, and explores with a tenth of its mass. Half of the shoppers are
logged, the other half judge: the value is the exact mean over them, no clicks are drawn for it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t

from offline_jobs.generated_plan import plan_world
from offline_jobs.generated_settings import GeneratedShopSettings
from training.extended.estimators import Floats, Logged, clipped_ips, diagnose, dr, ips, snips, switch_dr, value
from training.extended.off_policy import (
    OBJECTIVES,
    OffPolicySettings,
    SoftmaxPolicy,
    fit_policy,
    learn_policy,
    reward_model,
)

KNOWN_PURCHASES = 3


@dataclass(frozen=True)
class ClickWorld:
    context: np.ndarray
    """(shoppers, clusters) float32."""
    click: Floats
    """(shoppers, actions) true probability."""
    logging: Floats
    """(shoppers, actions) the logging policy."""

    def half(self, which: int) -> ClickWorld:
        part = slice(which, None, 2)
        return ClickWorld(self.context[part], self.click[part], self.logging[part])

    def value(self, probabilities: Floats) -> float:
        return float((probabilities * self.click).sum(1).mean())

    def log(self, rows: int, rng: np.random.Generator) -> Logged:
        user = rng.integers(0, len(self.context), rows)
        heights = self.logging[user].cumsum(1)
        action = np.minimum((rng.random(rows)[:, None] > heights).sum(1), self.logging.shape[1] - 1)
        reward = (rng.random(rows) < self.click[user, action]).astype(np.float64)
        return Logged(self.context[user], action, self.logging[user, action], reward, self.logging.shape[1])


def click_world(seed: int, *, explored: float = 0.1, clusters: int = 20, shoppers: int = 6000) -> ClickWorld:
    shop = plan_world(GeneratedShopSettings(items=clusters * 18, users=shoppers, interactions=shoppers * 10, seed=seed))
    cluster = shop.cluster_of_item[shop.item]
    sold = np.flatnonzero(np.bincount(cluster, minlength=clusters))
    order = np.lexsort((shop.timestamp, shop.user))
    user, cluster = shop.user[order], cluster[order]
    place = np.arange(len(user)) - np.searchsorted(user, user)
    known, other = (np.zeros((shoppers, clusters)) for _ in range(2))
    early = place < KNOWN_PURCHASES
    np.add.at(known, (user[early], cluster[early]), 1 / KNOWN_PURCHASES)
    np.add.at(other, (user[~early], cluster[~early]), 1)
    other /= np.maximum(other.sum(1, keepdims=True), 1)
    own = shop.cluster_of_user[:, None] == np.arange(clusters)
    click = (0.02 + 0.30 * own + 0.2 * other)[:, sold]
    popularity = np.log(np.bincount(cluster, minlength=clusters)[sold])
    logits = 1.5 * (popularity - popularity.mean()) / popularity.std() + 1.5 * known[:, sold]
    grown = np.exp(logits)
    logging = (1 - explored) * grown / grown.sum(1, keepdims=True) + explored / len(sold)
    return ClickWorld(known.astype(np.float32), click, logging)


def learners(world: ClickWorld, log: Logged, seed: int, l2: list[float]) -> dict[str, dict[str, float]]:
    """True value of each learned policy for the shoppers that were not logged, and the log's own view of it."""
    judges = world.half(1)
    out = {}
    variants = {name: OffPolicySettings(objective=name, variance_penalty=0, l2=l2, seed=seed) for name in OBJECTIVES}
    variants["clipped + variance penalty (POEM)"] = OffPolicySettings(objective="clipped", l2=l2, seed=seed)
    variants["snips + variance penalty (Norm-POEM)"] = OffPolicySettings(objective="snips", l2=l2, seed=seed)
    for name, settings in variants.items():
        start = time.perf_counter()
        policy, aside = learn_policy(log, settings)
        weight = policy.weights(aside)
        out[name] = {
            "true": judges.value(policy.probabilities(judges.context)),
            "snips": value(snips(weight, aside.reward)).mean,
            "effective_share": diagnose(weight, aside.propensity).effective_rows / len(aside),
            "max_weight": float(weight.max()),
            "mean_weight": float(weight.mean()),
            "seconds": time.perf_counter() - start,
        }
    return out


def errors_of_estimators(world: ClickWorld, log: Logged, target: SoftmaxPolicy, seed: int) -> dict[str, float]:
    """Estimate minus truth for one fixed target policy, from one log."""
    logged = world.half(0)
    truth = logged.value(target.probabilities(logged.context))
    order = np.random.default_rng(seed).permutation(len(log))
    model = reward_model(log.rows(order[: len(log) // 2]), 1e-4, 100)
    log = log.rows(order[len(log) // 2 :])
    q = 1 / (1 + np.exp(-model.logits(log.context).astype(np.float64)))
    weight, expected = target.weights(log), (target.probabilities(log.context) * q).sum(1)
    modelled = q[np.arange(len(log)), log.action]
    terms = {
        "ips": ips(weight, log.reward),
        "clipped at 10": clipped_ips(weight, log.reward, 10),
        "snips": snips(weight, log.reward),
        "model alone": expected,
        "dr": dr(weight, log.reward, modelled, expected),
        "switch-dr at 10": switch_dr(weight, log.reward, modelled, expected, 10),
    }
    out = {}
    for name, of in terms.items():
        estimate = value(of)
        out[name] = estimate.mean - truth
        out[f"{name}: covered"] = float(estimate.low <= truth <= estimate.high)
    return out


def measure(seed: int, size: int, explored: float, l2: list[float]) -> dict[str, object]:
    world = click_world(seed, explored=explored)
    judges, logged = world.half(1), world.half(0)
    best = np.eye(judges.click.shape[1])[judges.click.argmax(1)]
    target = fit_policy(logged.log(5_000, np.random.default_rng([seed, 9])), OffPolicySettings(), 0.1)
    log = logged.log(size, np.random.default_rng([seed, size]))
    bounds = {"logging": judges.value(judges.logging), "uniform": float(judges.click.mean())}
    return {
        "seed": seed,
        "size": size,
        "explored": explored,
        "bounds": {**bounds, "best": judges.value(best)},
        "learned": learners(world, log, seed, l2),
        "errors": errors_of_estimators(world, log, target, seed),
    }


def interval(x: list[float]) -> str:
    """Mean and the t interval over seeds."""
    half = float(t.ppf(0.975, len(x) - 1) * np.std(x, ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")
    return f"{np.mean(x):.4f} ± {half:.4f}"


def show(rows: list[dict], explored: float) -> None:
    for size in sorted({row["size"] for row in rows}):
        of = [row for row in rows if row["size"] == size and row["explored"] == explored]
        if not of:
            continue
        print(f"\nlog of {size:,} rows, {explored} explored, {len(of)} seeds")
        for name in of[0]["bounds"]:
            print(f"| {name} | {interval([row['bounds'][name] for row in of])} |")
        for name in of[0]["learned"]:
            learned = [row["learned"][name] for row in of]
            gain = [one["true"] - row["learned"]["clicks"]["true"] for one, row in zip(learned, of, strict=True)]
            told = [one["snips"] - one["true"] for one in learned]
            means = {k: np.mean([one[k] for one in learned]) for k in learned[0]}
            print(
                f"| {name} | {interval([one['true'] for one in learned])} | {interval(gain)} | {np.mean(told):+.3f} | "
                f"{means['effective_share']:.2f} | {means['max_weight']:.0f} | {means['mean_weight']:.2f} | "
                f"{means['seconds']:.1f} |"
            )
        for name in [name for name in of[0]["errors"] if "covered" not in name]:
            errors = np.array([row["errors"][name] for row in of])
            covered = np.mean([row["errors"][f"{name}: covered"] for row in of])
            print(f"| {name} | {interval(list(errors))} | {np.sqrt((errors**2).mean()):.4f} | {covered:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what it holds already is not done again")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--explored", type=float, default=0.1)
    parser.add_argument("--penalties", type=float, nargs="+", default=[0.01, 0.1])
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["seed"], row["size"], row["explored"]) for row in rows}
    for seed, size in ((seed, size) for size in given.sizes for seed in given.seeds):
        if (seed, size, given.explored) not in done:
            rows.append(measure(seed, size, given.explored, given.penalties))
            with given.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    show(rows, given.explored)


if __name__ == "__main__":
    main()
