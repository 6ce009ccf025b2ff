"""Reading a run: order, what is compared with what, and files that are not what they should be."""

from pathlib import Path

import numpy as np
import pytest

from service.errors import DataError
from tests.training.report.conftest import change, keep
from training.evaluation.result import load_results
from training.evaluation.significance import compare_run
from training.report.run_results import RunResults, read_run, styles


def read(run: Path, **options: str) -> RunResults:
    return read_run(run, **{"metric": "recall@20", **options})


def test_models_are_ordered_by_their_mean_over_seeds(judged: Path, results: RunResults) -> None:
    by_model: dict[str, list[float]] = {}
    for result in load_results(judged):
        by_model.setdefault(result.model, []).append(result.metrics["recall@20"].mean)
    assert len(by_model["factors"]) == 2
    expected = {model: np.mean(means) for model, means in by_model.items()}
    assert [model.name for model in results.models] == sorted(expected, key=lambda name: -expected[name])
    for model in results.models:
        assert results.figure(model).mean == pytest.approx(expected[model.name])


def test_differences_are_those_of_the_evaluation_to_the_strongest_baseline(judged: Path, results: RunResults) -> None:
    assert results.against is not None
    assert results.against is next(model for model in results.models if model.is_baseline)
    expected = {one.model: one for one in compare_run(judged, results.against.name, metrics=("recall@20",))}
    assert results.differences == expected
    assert results.unpaired == ()


def test_another_model_can_be_asked_for(judged: Path) -> None:
    found = read(judged, against="factors")
    assert found.against is not None
    assert found.against.name == "factors"
    assert set(found.differences) == {"popularity", "item-knn", "ease", "content+ease"}


def test_a_model_without_its_shoppers_is_named_and_the_others_are_compared(folder: Path) -> None:
    (folder / "results" / "factors-1.npz").unlink()
    found = read(folder)
    assert [model.name for model in found.unpaired] == ["factors"]
    assert set(found.differences) == {model.name for model in found.models} - {"factors", found.against.name}  # type: ignore[union-attr]


def test_other_shoppers_are_not_compared(folder: Path) -> None:
    path = folder / "results" / "popularity-0.npz"
    with np.load(path) as arrays:
        fewer = {name: arrays[name][1:] for name in arrays.files}
    np.savez(path, **fewer)
    found = read(folder)
    assert [model.name for model in found.unpaired] == ["popularity"]
    assert "popularity" not in found.differences


def test_without_the_rival_s_shoppers_nothing_is_compared(folder: Path, results: RunResults) -> None:
    assert results.against is not None
    (folder / "results" / f"{results.against.name}-0.npz").unlink()
    found = read(folder)
    assert found.differences == {}
    assert {model.name for model in found.unpaired} == {m.name for m in found.models} - {results.against.name}


def test_a_model_without_the_metric_is_kept_apart(folder: Path) -> None:
    change(folder, "popularity", metrics={"recall@10": {"mean": 0.1, "low": 0.1, "high": 0.1}})
    found = read(folder)
    assert [model.name for model in found.unranked] == ["popularity"]
    assert "popularity" not in [model.name for model in found.models]


def test_one_model_has_nothing_to_be_compared_with(folder: Path) -> None:
    keep(folder, "ease")
    assert read(folder).against is None
    assert read(folder, against="ease").against is None


def test_what_cannot_be_reported_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"empty/results: no model's results are there. Judge at least one"):
        read(tmp_path / "empty")
    with pytest.raises(DataError, match=r"no model 'gat' was judged. Take one of: "):
        read(folder, against="gat")
    with pytest.raises(DataError, match=r"no model was judged by ndcg@50. Take one of: .*recall@20"):
        read(folder, metric="ndcg@50")
    (folder / "results" / "ease-0.npz").write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match=r"ease-0.npz: not the metrics of each shopper"):
        read(folder)
    np.savez(folder / "results" / "ease-0.npz", users=np.arange(3), recall_at_20=np.zeros(2))
    with pytest.raises(DataError, match=r"ease-0.npz: not as many figures as shoppers"):
        read(folder)
    (folder / "provenance.json").write_text('{"cores": "two"}')
    change(folder, "popularity", protocol="B")
    with pytest.raises(DataError, match="results of planted clusters under protocol A and of planted clusters under"):
        read(folder)


@pytest.mark.parametrize("name", ["attention.json", "provenance.json"])
def test_a_foreign_file_is_refused_with_its_place(folder: Path, name: str) -> None:
    (folder / name).write_text('{"surprise": 1}')
    with pytest.raises(DataError, match=name):
        read(folder)


def test_a_plot_s_models_hold_the_ones_that_matter_and_differ_in_style(results: RunResults) -> None:
    chosen = results.chosen(results.models)
    assert [model.name for model in chosen] == [model.name for model in results.models]
    found = styles(chosen)
    assert len(set(found.values())) == len(chosen)
    firsts = {model.is_baseline: found[model.name] for model in reversed(chosen)}
    assert firsts == {True: 1, False: 0}
