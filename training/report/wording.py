"""The report's words: metrics, protocols and slices in the language of people who read it."""

from __future__ import annotations

PROTOCOLS = {
    "A": "a random share of each shopper's items is held out, as in the papers (protocol A)",
    "B": "models learn from the past and are judged on what came later, one cut in time for everyone (protocol B)",
    "C": "judged on items that nobody had in training, strict cold start (protocol C)",
}
NOT_SHOWN = {
    "A": "How models do on purchases that come later in time: protocol B shows that, this page is protocol A.",
    "B": "How models compare with published figures: papers split at random (protocol A), this page is protocol B.",
    "C": "Quality on items that were sold before: this page is protocol C, cold items.",
}
RANKING = (
    "Every item is a candidate and nothing is sampled; only what a shopper has in training is masked. "
    "Ties are broken by a seeded permutation, so that a constant score cannot look good."
)
STATISTICS = (
    "Intervals are bootstrap intervals over shoppers, for several seeds the mean of theirs: they say how far another "
    "draw of shoppers might move a figure, not another seed. Differences are paired shopper by shopper, each shopper's "
    "figures averaged over seeds: a bootstrap interval, and a paired t-test corrected by Holm over {comparisons} "
    "comparisons. This page orders models by their test figures; it chooses none."
)
METRICS = {
    "recall": "of a shopper's held-out items, the share that stands among the first {k}, averaged over shoppers",
    "ndcg": "as recall among the first {k}, but a hit counts the more the higher it stands; 1 is a perfect order",
    "candidate_recall": "the share of held-out items among the {k} candidates that retrieval hands to the re-ranker: "
    "what is not there, the re-ranker cannot find",
}
BEYOND = {
    "coverage": (
        "Coverage",
        "share of the items that anyone is shown",
        "How much of the shop is shown to anyone at all.",
    ),
    "gini": (
        "Evenness",
        "Gini: 0 even, 1 one item alone",
        "How unevenly showings fall on items: less is more even.",
    ),
    "intra_list_diversity": (
        "Variety of a list",
        "mean 1 − cosine inside a list",
        "How different the items of one list are from one another in content.",
    ),
    "popularity_lift": (
        "Popularity of what is shown",
        "times the popularity of histories",
        "1: lists are as popular as what shoppers have already; above: the model pushes best-sellers.",
    ),
}


def metric_name(metric: str) -> str:
    """`recall@20` as Recall@20."""
    name, _, k = metric.partition("@")
    shown = {"ndcg": "NDCG", "candidate_recall": "Candidate recall"}.get(name, name.replace("_", " ").capitalize())
    return f"{shown}@{k}"


def metric_meaning(metric: str) -> str:
    """What a metric is, in half a sentence; empty where it is not known."""
    name, _, k = metric.partition("@")
    return METRICS.get(name, "").format(k=k)


def slice_name(name: str) -> str:
    """`users/1-4` as `1–4 items`, `items/head` as `head`."""
    kind, _, part = name.partition("/")
    return f"{part.replace('-', '–')} items" if kind == "users" else part
