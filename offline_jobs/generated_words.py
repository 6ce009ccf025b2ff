"""The generated shop's words: what a cluster is about, in words that an encoder knows, and looks that go with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline_jobs.drawing import COLOURS, GROUNDS, PATTERNS, SHAPES, Look


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = {
    "Kitchen": "kettle teapot frying-pan knife cutting-board mug lunch-box coffee-grinder",
    "Garden": "watering-can plant-pot garden-hose trowel bird-feeder lantern hammock rake",
    "Outdoor": "tent backpack sleeping-bag water-bottle headlamp hiking-boots compass folding-chair",
    "Office": "notebook fountain-pen desk-lamp stapler office-chair keyboard mouse-pad calendar",
    "Toys": "puzzle doll wooden-train teddy-bear kite board-game toy-drum building-blocks",
    "Clothing": "scarf raincoat sweater dress jeans hat gloves sneakers",
}
MATERIALS = _words(
    "cotton steel oak leather glass wool bamboo copper linen ceramic rubber silk canvas marble aluminium felt"
)
STYLES = _words(
    "vintage modern rustic minimal sporty elegant playful nautical gothic tropical "
    "industrial romantic futuristic bohemian military festive"
)
SYLLABLES = _words("nor vik lum ara tes ko bel mir dan os fre la zu pen tri gal hau so rin ek")
FOREIGN = ("Café", "Größe M", "Señora", "日本製", "Ελλάδα", "№ 7", "crème brûlée", "Łódź")
PLACES = (
    "home",
    "travel",
    "work",
    "gifts",
    "weekends",
    "every day use",
    "small rooms",
    "big families",
)
SIZES = (
    "Small",
    "Medium",
    "Large",
    "XL",
    "2-Pack",
    "Set of 4",
    "12 Inch",
    "30 cm",
    "1.7 Liter",
    "Compact",
    "Full Size",
)
PERKS = (
    "with 2 Year Warranty",
    "Easy to Clean",
    "Lightweight and Durable",
    "Gift Boxed",
    "Water Resistant",
    "Hand Finished",
    "Indoor and Outdoor Use",
    "Fully Adjustable",
    "New Edition",
    "Great Gift Idea",
)

DEPARTMENTS = tuple((name, noun.replace("-", " ")) for name, nouns in NOUNS.items() for noun in nouns.split())
BRANDS = 8000
COMBINATIONS = len(DEPARTMENTS) * len(MATERIALS) * len(STYLES) * len(COLOURS)


@dataclass(frozen=True)
class Theme:
    """What the items of one cluster have in common."""

    department: str
    noun: str
    material: str
    style: str
    colour: str
    brand: str
    look: Look


class Themes:
    """One theme a cluster, no two alike below 147,456 clusters, each made when it is asked for.

    Brands have Zipf sizes: the largest has many clusters, most have one or two.
    """

    def __init__(self, clusters: int, rng: np.random.Generator) -> None:
        self.code: npt.NDArray[np.int64] = rng.permutation(max(COMBINATIONS, clusters))[:clusters] % COMBINATIONS
        brands = min(BRANDS, max(4, clusters // 3))
        share = np.cumsum(1.0 / (np.arange(brands) + 1.0))
        self.brand: npt.NDArray[np.int64] = np.searchsorted(share / share[-1], rng.random(clusters))

    @property
    def noun(self) -> npt.NDArray[np.int64]:
        """(clusters,) positions in DEPARTMENTS."""
        return self.code % len(DEPARTMENTS)

    def __getitem__(self, cluster: int) -> Theme:
        rest, noun = divmod(int(self.code[cluster]), len(DEPARTMENTS))
        rest, material = divmod(rest, len(MATERIALS))
        colour, style = divmod(rest, len(STYLES))
        return Theme(
            department=DEPARTMENTS[noun][0],
            noun=DEPARTMENTS[noun][1],
            material=MATERIALS[material],
            style=STYLES[style],
            colour=tuple(COLOURS)[colour],
            brand=brand_name(int(self.brand[cluster])),
            look=Look(
                SHAPES[noun % len(SHAPES)],
                tuple(COLOURS)[colour],
                PATTERNS[material % len(PATTERNS)],
                GROUNDS[style % len(GROUNDS)],
            ),
        )


def brand_name(number: int) -> str:
    """Three syllables; no two alike below 8000."""
    scattered = (number + 1) * 3371 % BRANDS  # 3371 and 8000 have no common factor
    return "".join(SYLLABLES[scattered // 20**place % 20] for place in range(3)).capitalize()


def describe(theme: Theme, draw: list[float], *, with_description: bool) -> tuple[str, str | None]:
    """Title (about 18 tokens) and description (one to three sentences) of an item, or None without one.

    `draw` holds nine numbers in [0, 1) that choose its own words. One item in six has another style than its
    cluster, one in six another material; 1 % of titles are not ASCII.
    """
    style = _pick(STYLES, draw[0] * 6) if draw[0] < 1 / 6 else theme.style
    material = _pick(MATERIALS, draw[1] * 6) if draw[1] < 1 / 6 else theme.material
    model = f"{'ABCDEFGHKLMNPRST'[int(draw[2] * 16)]}{int(draw[3] * 900) + 100}"
    title = f"{theme.brand} {style.capitalize()} {material.capitalize()} {theme.noun.title()} {model}"
    place = _pick(PLACES, draw[5])
    if draw[4] >= 0.15:  # the others keep a short title
        title = f"{title}, {theme.colour.capitalize()}, {_pick(SIZES, draw[8])}"
        if draw[4] >= 0.5:
            title = f"{title}, {_pick(PERKS, draw[8] * 47 % 1)}"
    if draw[4] < 0.01:
        title = f"{title} {_pick(FOREIGN, draw[4] * 100)}"
    if not with_description:
        return title, None
    sentences = (
        f"A {style} {theme.noun} made of {theme.colour} {material}, good for {place}.",
        f"This {theme.colour} {theme.noun} brings a {style} touch to {place}. Made of {material}.",
        f"{theme.brand}'s {style} classic: a {theme.noun} in {theme.colour} {material} & more, for {place}.",
    )
    first = int(draw[6] * 3)
    count = 1 + int(draw[6] * 9 % 3)
    return title, " ".join(sentences[(first + n) % 3] for n in range(count))


def _pick(words: tuple[str, ...], draw: float) -> str:
    return words[int(draw * len(words))]
