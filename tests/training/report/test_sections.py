"""Sections: the numbers in tables are the results' own."""

import json
from pathlib import Path

import pytest
from lxml import html

from service.errors import DataError
from tests.training.report.conftest import change, keep
from training.report.attention import attention_section, read_attention
from training.report.cost import cost_section
from training.report.curves import curves_section
from training.report.ladder import ladder_section
from training.report.published import PUBLISHED
from training.report.published_section import comparable, published_section
from training.report.run_results import RunResults, read_run
from training.report.seeds import seeds_section
from training.report.slices_section import slice_names, slices_section


def rows(markup: str, caption: str) -> list[list[str]]:
    """Cells of the table with a caption, a row a list."""
    tables = html.fragment_fromstring(markup, create_parent="div").xpath(f"//table[starts-with(caption, '{caption}')]")
    return [[cell.text_content() for cell in row.xpath("./th | ./td")] for row in tables[0].xpath(".//tbody/tr")]


def test_the_ladder_s_table_is_the_results(results: RunResults) -> None:
    cells = rows(ladder_section(results), "Mean over seeds")
    assert [row[0] for row in cells] == [model.title for model in results.models]
    for row, model in zip(cells, results.models, strict=True):
        assert row[1].startswith(f"{results.figure(model).mean:.4f}")
        assert row[-1] == str(len(model.results))
        assert (row[3] == "–") == (model is results.against)


def test_slices_keep_their_order_and_their_best(results: RunResults) -> None:
    assert slice_names(results, "items") == ["items/head", "items/mid", "items/tail", "items/cold"]
    assert slice_names(results, "users") == ["users/1-4", "users/5-9", "users/10-19"]
    section = slices_section(results)
    cells = rows(section, "Recall@20 by group")
    cold = {row[0]: float(row[4][:6]) for row in cells}
    assert cold["Content and EASE"] == max(cold.values()) > 0  # the one model here that knows content
    assert f"cold: Content and EASE ({cold['Content and EASE']:.4f})" in section


def test_a_group_that_nobody_serves_has_no_best(folder: Path) -> None:
    keep(folder, "ease", "popularity")
    assert "cold: none finds any" in slices_section(read_run(folder, metric="recall@20"))


def test_memory_is_not_compared_where_one_process_judged_all(folder: Path) -> None:
    models = ("popularity", "item-knn", "ease", "content+ease", "factors")
    for place, model in enumerate(models):
        change(folder, model, peak_rss_mib=900.0 + place)
    assert rows(cost_section(read_run(folder, metric="recall@20")), "Memory")
    for model in models:
        change(folder, model, peak_rss_mib=900.0)
    assert "one process, whose peak was 900 MiB" in cost_section(read_run(folder, metric="recall@20"))


def test_seeds_show_every_fit(results: RunResults) -> None:
    factors = results.named("factors")
    assert factors is not None
    means = [result.metrics["recall@20"].mean for result in factors.results]
    (row,) = rows(seeds_section(results), "Recall@20 over seeds")
    assert row[:2] == ["Factors, softmax", "2"]
    assert row[4:] == [f"{min(means):.4f}", f"{max(means):.4f}"]
    assert "With one seed only: " in seeds_section(results)


def test_curves_tell_the_best_epoch_of_every_fit(results: RunResults) -> None:
    factors = results.named("factors")
    assert factors is not None
    cells = rows(curves_section(results), "Every fit")
    assert len(cells) == 2
    for row, result in zip(cells, factors.results, strict=True):
        best = max(result.curve, key=lambda epoch: epoch.validation_recall_at_20 or 0)
        assert row[1:5] == [str(result.seed), "12", f"{best.validation_recall_at_20:.4f}", str(best.epoch)]


def test_curves_without_a_loss_or_without_a_judge_are_drawn_as_far_as_they_go(folder: Path) -> None:
    epochs = [{"epoch": 1, "loss": 2.0, "seconds": 1.0}, {"epoch": 2, "loss": 1.0, "seconds": 1.0}]
    keep(folder, "ease")
    change(folder, "ease", curve=epochs)
    section = curves_section(read_run(folder, metric="recall@20"))
    assert section.count("<figure") == 1
    assert rows(section, "Every fit") == [["EASE", "0", "2", "–", "–", "2 → 1", "2.0 s"]]


@pytest.mark.parametrize(("metric", "best"), [("recall@20", "MENTOR"), ("ndcg@20", "GUME")])
def test_published_figures_hold_for_one_data_set_protocol_and_metric(folder: Path, metric: str, best: str) -> None:
    keep(folder, "ease")
    change(folder, "ease", dataset="amazon-baby")
    run = read_run(folder, metric=metric)
    assert comparable(run)[0][0].model == best
    cells = rows(published_section(run), "Published on amazon-baby")
    assert len(cells) == len(PUBLISHED["amazon-baby"])
    assert all(row[3] for row in cells)
    change(folder, "ease", protocol="C")
    run = read_run(folder, metric=metric)
    assert comparable(run) == []
    assert "<figure" not in published_section(run)


def test_attention_shows_shares_and_refuses_what_does_not_fit(folder: Path) -> None:
    attention = read_attention(folder)
    cells = rows(attention_section(attention), "Events of the history")
    assert cells == [["a lamp", "", "25.0 %"], ["a desk", "", "75.0 %"]]
    path = folder / "attention.json"
    told = json.loads(path.read_text())
    for broken in (told | {"gain": [1.0]}, told | {"examples": [told["examples"][0] | {"shares": [1.0]}]}):
        path.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=r"attention.json: .*needs one number"):
            read_attention(folder)
    path.write_text("{}")
    assert "<figure" not in attention_section(read_attention(folder))
