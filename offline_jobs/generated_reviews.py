"""The generated shop's reviews: strict JSON lines that speak of the item, and more kindly of what is to one's taste."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from offline_jobs.generated_plan import Plan, open_plan
from offline_jobs.generated_world import DAY, Floats, Ints

PART = 3
CHUNK = 20_000
"""Reviews a chunk."""
MOST_SENTENCES = 12
STARS_TO_TASTE = np.cumsum([0.03, 0.03, 0.06, 0.20])
STARS = np.cumsum([0.09, 0.065, 0.105, 0.22])
"""Chances of one to four stars; the rest is five: a J, as everywhere."""
GOOD = (
    "The {noun} looks just like the picture.",
    "Well made, the {material} feels solid.",
    "I use it for {place} and would buy it again.",
    "Exactly the {style} look I was hoping for.",
    "The {colour} is lovely.",
    'This is the "second" {brand} I own and it will not be the last.',
    "Arrived quickly and well packed.",
    "My sister wants the same {noun} now.",
    "Worth the price, no complaints so far.",
    "Of all my {material} things this is the one I use most.",
    "It goes well with the rest of my {style} {department} things.",
    "After three months it is still as good as new.",
    "A gift for my father, he loves it.",
    "My café has four of them.",
    "{brand} never lets me down.",
    "You will not find a better {style} {noun}.",
)
MIXED = (
    "Bought it last month.",
    "It is a {noun}, it does what it says.",
    "A bit small for {place}.",
    "The {colour} is darker than in the picture.",
    "Instructions could be clearer.",
    "I had an older {noun} before this one.",
    "Delivery took a week.",
    "Good enough for the money.",
)
BAD = (
    "The {noun} broke after two weeks.",
    "This is not real {material} at all.",
    "Sent it back, the {colour} was wrong.",
    "Not {style} in any way, just cheap.",
    "I expected more of {brand}.",
    "Smells odd and will not go away.",
    "Useless for {place}.",
    "Save your money and get another {noun}.",
)
SUMMARIES = (
    ("Do not buy", "Broke", "Disappointed", "Waste of money"),
    ("Not good", "Expected more", "Poor {material}", "Hmm"),
    ("It's okay", "So so", "An average {noun}", "Fine for the price"),
    ("Good {noun}", "Nice", "Good value", "I like the {colour}"),
    ("Great {noun}!", "Love it", "Five Stars", "Perfect {style} {noun}"),
)
PLACES = ("home", "travel", "work", "weekends")
NAMES = ("Alex", "Maria", "J. Smith", "Chris", "Dana", "Lee", "Priya", "Tom", "Sofia", "Ken", "Olga", "Amazon Customer")


def write_chunk(folder: str, chunk: int) -> bytes:
    """Chunk `chunk` of the reviews of the plan in `folder`, ordered by item and time."""
    plan = open_plan(folder)
    part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    user, item, stamp = (np.asarray(column[part]) for column in (plan.user, plan.item, plan.timestamp))
    rng = plan.random(PART, chunk)
    cluster = plan.cluster_of_item[item]
    draws = rng.random((len(user), 3))
    stars = _stars(plan.cluster_of_user[user] == cluster, draws[:, 0])
    count = np.clip(np.exp(rng.normal(1.25, 0.7, len(user))), 1, MOST_SENTENCES).astype(np.int64)
    first, stride = rng.integers(0, 24, len(user)), rng.choice([1, 5, 7, 11, 13, 17, 19, 23], len(user))
    sentences = (first[:, None] + stride[:, None] * np.arange(MOST_SENTENCES)) % len(GOOD + MIXED)
    votes = (np.exp(rng.exponential(0.5, len(user))) - 1).astype(np.int64)
    rows = zip(
        plan.user_ids[user].astype("U14").tolist(), plan.item_ids[item].astype("U10").tolist(), user.tolist(),
        stamp.tolist(), cluster.tolist(), stars.tolist(), count.tolist(), sentences.tolist(), votes.tolist(),
        (draws[:, 1] * (votes + 1)).astype(np.int64).tolist(), (draws[:, 2] * 4).astype(np.int64).tolist(),
        strict=True,
    )  # fmt: skip
    lines = []
    for user_id, item_id, number, t, c, star, n, chosen, all_votes, helpful, title in rows:
        texts, summaries = _phrases(folder, c)
        mood = texts[(star > 2) + (star > 3)]
        # Every part is JSON already: nothing in it needs escaping.
        lines.append(
            f'{{"reviewerID": "{user_id}", "asin": "{item_id}", "reviewerName": "{NAMES[number % 12]}", '
            f'"helpful": [{helpful}, {all_votes}], "reviewText": "{" ".join([mood[k] for k in chosen[:n]])}", '
            f'"overall": {star}.0, "summary": "{summaries[star - 1][title]}", "unixReviewTime": {t}, '
            f'"reviewTime": "{_day(t // DAY)}"}}\n'
        )
    return "".join(lines).encode()


def _stars(to_taste: npt.NDArray[np.bool_], draw: Floats) -> Ints:
    """(n,) one to five; what was bought by taste is liked more."""
    return np.where(to_taste, np.searchsorted(STARS_TO_TASTE, draw), np.searchsorted(STARS, draw)) + 1


@lru_cache(maxsize=20_000)
def _phrases(folder: str, cluster: int) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """Sentences for one or two, three, and more stars, and summaries by stars, with the words of one cluster."""
    plan: Plan = open_plan(folder)
    theme = plan.theme(cluster)
    words = {name: getattr(theme, name) for name in ("noun", "material", "style", "colour", "brand")}
    words |= {"department": theme.department.lower(), "place": PLACES[cluster % len(PLACES)]}

    def fill(templates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(json.dumps(template.format(**words))[1:-1] for template in templates)

    good, mixed, bad = fill(GOOD), fill(MIXED), fill(BAD)
    moods = (bad + bad + mixed, bad + good[:8] + mixed, good + mixed)
    return moods, tuple(fill(summaries) for summaries in SUMMARIES)


@lru_cache(maxsize=8000)
def _day(day: int) -> str:
    """A day as the real files write it: `7 23, 2014` without leading zeros in the day."""
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%m %d, %Y").replace(" 0", " ")
