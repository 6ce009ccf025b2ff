"""What a search over the GAT's fit varies; every field is one of FitSettings'."""

from __future__ import annotations

from training.tuning.space import Choice, Range, Space

GAT_SPACE: Space = {
    "width": Choice(values=(63, 95, 127, 191)),
    "heads": Choice(values=(0, 2, 4, 8)),
    "rounds": Choice(values=(1, 2, 3)),
    "learning_rate": Range(low=0.001, high=0.01, scale="log"),
    "temperature": Range(low=0.08, high=0.3, scale="log"),
    "negatives": Range(low=500, high=3000, scale="log"),
    "hidden_share": Range(low=0.3, high=0.7),
    "identity_dropout": Range(low=0.0, high=0.6),
    "popularity_half_life": Range(low=0.1, high=1.0, scale="log"),
}
