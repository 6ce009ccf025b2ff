"""The headline says what the numbers say, and what is missing."""

from pathlib import Path

from tests.training.report.conftest import change, keep
from training.report.headline import claims, not_measured
from training.report.run_results import RunResults, read_run


def read(run: Path, **options: str) -> RunResults:
    return read_run(run, **{"metric": "recall@20", **options})


def estimate(mean: float) -> dict[str, dict[str, float]]:
    return {"recall@20": {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}}


def test_what_won_by_how_much_and_on_what(results: RunResults) -> None:
    said = " ".join(claims(results))
    own, rival = results.own, results.against
    assert own is not None
    assert rival is not None
    best = results.figure(results.best)
    assert f"{results.best.title} is best of 5 models" in said
    assert f"95 % interval {best.low:.4f} to {best.high:.4f}" in said
    gap = results.figure(own).mean - results.figure(rival).mean
    assert f"{own.title} is {abs(gap):.4f}" in said
    assert f"{'above' if gap >= 0 else 'below'} {rival.title}, the strongest baseline" in said
    verdict = "beyond chance" if results.differences[own.name].significant else "may be chance"
    assert f"That {'is ' if verdict[0] == 'b' else ''}{verdict}" in said
    assert "Measured on planted clusters: a random share of each shopper's items is held out" in said
    assert f"{results.best.results[0].users} shoppers, 1 to 2 seeds a model." in said


def test_a_baseline_that_wins_is_said_to_win(folder: Path) -> None:
    keep(folder, "ease", "content+ease")
    change(folder, "ease", metrics=estimate(0.5))
    change(folder, "content+ease", metrics=estimate(0.4))
    said = " ".join(claims(read(folder)))
    assert said.startswith(
        "EASE is best of 2 models: of what a shopper went on to choose, 50.0 % is among its first 20"
    )
    assert "Content and EASE is 0.1000 (20 %) below EASE, the strongest baseline (0.5000)" in said


def test_without_figures_of_each_shopper_nothing_is_claimed_to_be_sure(folder: Path) -> None:
    keep(folder, "ease", "content+ease")
    for path in (folder / "results").glob("*.npz"):
        path.unlink()
    found = read(folder)
    said = " ".join(claims(found))
    assert "how sure that is cannot be said" in said
    assert "chance" not in said
    assert any(line.startswith("Whether every difference is beyond chance") for line in not_measured(found))


def test_baselines_alone_and_none_at_all(folder: Path) -> None:
    keep(folder, "ease", "popularity", "factors")
    assert "Every model here is a baseline." not in " ".join(claims(read(folder)))
    keep(folder, "ease", "popularity")
    said = " ".join(claims(read(folder)))
    assert "Every model here is a baseline." in said
    assert "Popularity is 0." in said
    keep(folder, "ease")
    assert "nothing says whether that is much" in " ".join(claims(read(folder)))


def test_ours_alone_has_no_baseline(folder: Path) -> None:
    keep(folder, "content+ease", "factors")
    found = read(folder)
    assert "No baseline was judged: what a simple model reaches here is not known." in claims(found)
    assert "How far a simple baseline comes: none was judged." in not_measured(found)


def test_what_is_served_and_what_retrieval_finds(folder: Path) -> None:
    keep(folder, "ease", "content+ease")
    change(folder, "ease", metrics=estimate(0.5))
    served = estimate(0.45) | {"candidate_recall@200": {"mean": 0.62, "low": 0.6, "high": 0.64}}
    change(folder, "content+ease", model="served", title="Served", metrics=served)
    for path in (folder / "results").glob("content+ease-0.*"):
        path.rename(path.with_name(path.name.replace("content+ease", "served")))
    found = read(folder)
    said = " ".join(claims(found))
    assert "What the service answers (Served) reaches 0.4500, 0.0500 below the best." in said
    assert "Served: retrieval finds 62.0 % of the held-out items in 200 candidates." in said
    assert "What retrieval alone misses." not in not_measured(found)


def test_papers_stand_beside_their_own_data_and_protocol_alone(folder: Path) -> None:
    keep(folder, "ease", "content+ease")
    for model, mean in (("ease", 0.08), ("content+ease", 0.11)):
        change(folder, model, dataset="amazon-baby", metrics=estimate(mean))
    paper = "The best published figure on this split is 0.1048 (MENTOR): Content and EASE is 0.0052 above it."
    assert paper in claims(read(folder))
    for model in ("ease", "content+ease"):
        change(folder, model, protocol="B")
    found = read(folder)
    assert "published" not in " ".join(claims(found))
    assert any("published" in line for line in not_measured(found))


def test_another_metric_is_told_in_its_own_words(judged: Path) -> None:
    found = read(judged, metric="ndcg@10")
    assert claims(found)[0].endswith(f"models: NDCG@10 {found.figure(found.best).mean:.4f}.")
