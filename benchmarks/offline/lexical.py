"""Seconds and memory of `embed-words` beside scikit-learn's TfidfVectorizer and TruncatedSVD on the same texts.

    python benchmarks/offline/lexical.py --rows 50000                       # both, on a generated shop
    python benchmarks/offline/lexical.py --work var/shop/work --no-reference    # the stage alone, all items

Each runs in a process of its own. `energy` is the share of the table's squared length that the directions keep.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from results import record
from text_embeddings import items_of, prepare

from offline_jobs.item_texts import read_texts
from training.stage import peak_rss_kib, read_record

DIM, TERMS = 192, 60_000


def reference(items: Path) -> dict[str, object]:
    """scikit-learn, exactly as the stage is set."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = read_texts(items)
    start = time.perf_counter()
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=TERMS, token_pattern=r"\w\w+", dtype=np.float32
    )
    weights = vectorizer.fit_transform(texts)
    terms = time.perf_counter() - start
    reduced = TruncatedSVD(DIM, random_state=0).fit_transform(weights)
    seconds = time.perf_counter() - start
    energy = float((reduced.astype(np.float64) ** 2).sum() / weights.multiply(weights).sum())
    return {
        "what": "scikit-learn",
        "items": len(texts),
        "terms": weights.shape[1],
        "seconds": round(seconds, 1),
        "tfidf_s": round(terms, 1),
        "energy": round(energy, 4),
        "peak_mib": round(peak_rss_kib() / 1024),
    }


def energy_kept(items: Path) -> float:
    """The same share for the stage's directions."""
    from offline_jobs.lexical_embeddings import LexicalEmbeddingSettings, fitted_directions
    from offline_jobs.lexical_terms import tfidf

    weights = tfidf(read_texts(items), TERMS)
    kept = weights @ fitted_directions(weights, LexicalEmbeddingSettings(dim=DIM, max_terms=TERMS))
    return float((kept.astype(np.float64) ** 2).sum() / weights.multiply(weights).sum())


def stage(work: Path) -> dict[str, object]:
    """The command in a process of its own."""
    subprocess.run([sys.executable, "-m", "offline_jobs", "embed-words", "--work", str(work)], check=True)
    record = read_record(work / "lexical_embeddings")
    return {"what": "embed-words", "items": record.counts["items"], "terms": record.counts["terms"],
            "seconds": record.wall_seconds, "peak_mib": record.peak_rss_mib}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=498_196, help="items to take")
    parser.add_argument("--work", type=Path, help="a work folder whose ingest stage ran; else a shop is generated")
    parser.add_argument("--reference", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--reference-items", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="a file to which each line is appended as JSON")
    args = parser.parse_args()
    if args.reference_items:
        print(json.dumps(reference(args.reference_items)))
        return
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch) / "measured"
        prepare(items_of(args, Path(scratch)), work)
        items = work / "ingest" / "items.parquet"
        lines.append(stage(work))
        if args.reference:
            command = [sys.executable, __file__, "--reference-items", str(items)]
            lines.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            lines[0]["energy"] = round(energy_kept(items), 4)
            lines[0]["ratio"] = round(float(lines[0]["seconds"]) / float(lines[1]["seconds"]), 3)
    for line in lines:
        record("lexical", line, args.out)


if __name__ == "__main__":
    main()
