"""Figures of papers on the splits that the project can judge on, with where they are from.

Full ranking, training items masked: recall@20 and NDCG@20. The Amazon tables are of the MMRec protocol
(arXiv:2302.03497), figures of older models as later papers on it report them; Gowalla is LightGCN's own split.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What a paper reports for one model on one data set; None where it reports no such figure."""

    model: str
    recall_at_20: float
    ndcg_at_20: float | None
    source: str

    def metric(self, name: str) -> float | None:
        """The figure of `recall@20` or `ndcg@20`; None for any other."""
        return {"recall@20": self.recall_at_20, "ndcg@20": self.ndcg_at_20}.get(name)


_SOURCES = {
    "BPR": "Rendle et al. 2009, arXiv:1205.2618",
    "VBPR": "He and McAuley 2016, arXiv:1510.01784",
    "LightGCN": "He et al. 2020, arXiv:2002.02126",
    "BM3": "Zhou et al. 2023, arXiv:2207.05969",
    "FREEDOM": "Zhou and Shen 2023, arXiv:2211.06924",
    "MGCN": "Yu et al. 2023, arXiv:2308.03588",
    "SLMRec": "Tao et al. 2023, IEEE TMM 25",
    "SMORE": "Ong and Khong 2025, arXiv:2412.14978",
    "MENTOR": "Xu et al. 2025, arXiv:2402.19407",
    "GUME": "Lin et al. 2024, arXiv:2407.12338",
    "PGL": "Yu et al. 2025, doi:10.1609/aaai.v39i12.33429",
    "vanilla GAT": "Veličković et al. 2018, arXiv:1710.10903, as compared by later papers",
    "ItemCF": "Sarwar et al. 2001, as compared by later papers",
    "EASE": "Steck 2019, arXiv:1905.03375, as compared by later papers",
    "UltraGCN": "Mao et al. 2021, arXiv:2110.15114",
    "GF-CF": "Shen et al. 2021, arXiv:2108.07567",
    "SimpleX": "Mao et al. 2021, arXiv:2109.12613",
}

_FIGURES: dict[str, tuple[tuple[str, float, float | None], ...]] = {
    "amazon-baby": (
        ("BPR", 0.0575, 0.0249),
        ("LightGCN", 0.0754, 0.0328),
        ("MGCN", 0.0964, 0.0427),
        ("FREEDOM", 0.0992, 0.0424),
        ("PGL", 0.1022, 0.0449),
        ("SMORE", 0.1035, 0.0457),
        ("GUME", 0.1042, 0.0460),
        ("MENTOR", 0.1048, 0.0450),
    ),
    "amazon-sports": (
        ("LightGCN", 0.0864, 0.0387),
        ("FREEDOM", 0.1089, 0.0481),
        ("MGCN", 0.1106, 0.0496),
        ("MENTOR", 0.1139, 0.0511),
        ("SMORE", 0.1142, 0.0506),
        ("GUME", 0.1165, 0.0527),
        ("PGL", 0.1174, 0.0528),
    ),
    "amazon-clothing": (
        ("LightGCN", 0.0526, 0.0236),
        ("FREEDOM", 0.0941, 0.0420),
        ("MGCN", 0.0945, 0.0428),
        ("SMORE", 0.0987, 0.0443),
        ("MENTOR", 0.0989, 0.0441),
        ("GUME", 0.1024, 0.0466),
        ("PGL", 0.1034, 0.0467),
    ),
    "amazon-electronics": (
        ("BPR", 0.0367, 0.0161),
        ("VBPR", 0.0458, 0.0202),
        ("LightGCN", 0.0540, 0.0250),
        ("FREEDOM", 0.0601, 0.0273),
        ("BM3", 0.0648, 0.0302),
        ("MGCN", 0.0650, 0.0302),
        ("SLMRec", 0.0651, 0.0303),
        ("MENTOR", 0.0655, 0.0300),
        ("GUME", 0.0680, 0.0310),
    ),
    "gowalla": (
        ("vanilla GAT", 0.1501, None),
        ("ItemCF", 0.1570, None),
        ("EASE", 0.1765, None),
        ("LightGCN", 0.1824, 0.1547),
        ("GF-CF", 0.1849, None),
        ("UltraGCN", 0.1862, None),
        ("SimpleX", 0.1872, None),
    ),
}

PUBLISHED: dict[str, tuple[Published, ...]] = {
    dataset: tuple(Published(model, recall, ndcg, _SOURCES[model]) for model, recall, ndcg in rows)
    for dataset, rows in _FIGURES.items()
}
"""Data set -> figures, best last. They hold under protocol A alone."""
