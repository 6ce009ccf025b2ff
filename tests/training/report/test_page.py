"""The page as a whole: one file, nothing loaded, readable without eyes, safe with hostile names, the same each time."""

import json
import re
from itertools import pairwise
from pathlib import Path

from lxml import etree, html

from tests.training.report.conftest import change, keep
from training.report.page import PARTS, report_page
from training.report.run_results import RunResults, read_run
from training.report.svg import COLOURS

HOSTILE = '<script>alert(1)</script>"\'&$x^{2$ font: DejaVu Sans style="font: DejaVu Sans</text>\u202ex\x00\n汉'


def tree(page: str) -> html.HtmlElement:
    return html.document_fromstring(page)


def test_one_file_loads_nothing_and_runs_nothing(page: str) -> None:
    root = tree(page)
    assert root.xpath("//script | //link | //img | //iframe | //object | //@src | //@onload | //@onclick") == []
    links = root.xpath("//a/@href") + root.xpath("//*[local-name()='use']/@*[contains(name(), 'href')]")
    assert links
    assert [link for link in links if not link.startswith("#")] == []
    assert "default-src 'none'" in root.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert "@import" not in page
    assert set(re.findall(r"url\(([^)]*?)\)", page)) == {f"#{i}" for i in re.findall(r"url\(#([^)]*)\)", page)}


def test_what_is_pointed_at_is_there_once(page: str) -> None:
    root = tree(page)
    ids = root.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert [anchor for anchor, _ in PARTS if anchor not in ids] == []
    assert {i[1:] for i in root.xpath("//a/@href")} == {anchor for anchor, _ in PARTS}
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)


def test_every_plot_has_words_a_caption_and_a_table(page: str) -> None:
    figures = tree(page).xpath("//figure")
    assert len(figures) >= 14
    for figure in figures:
        title = figure.findtext("h3")
        (plot,) = figure.xpath("./*[local-name()='svg']")
        assert plot.get("role") == "img", title
        assert len(plot.get("aria-label")) > 20, title
        assert len(figure.findtext("figcaption").strip()) > 10, title
        assert figure.xpath(".//details//table/tbody/tr"), title
        assert figure.xpath(".//details//table/caption/text()"), title
        assert figure.xpath(".//details//table//th[@scope='col']"), title


def test_headings_do_not_skip_a_level(page: str) -> None:
    levels = [int(node.tag[1]) for node in tree(page).xpath("//h1 | //h2 | //h3 | //h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_colours_are_the_page_s_own(page: str) -> None:
    assert [colour for colour in COLOURS if colour in page] == []
    plots = "".join(re.findall(r"<svg.*?</svg>", page, re.S))
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", plots)) == set()
    assert "DejaVu" not in plots


def test_the_same_results_give_the_same_bytes(results: RunResults, page: str) -> None:
    assert report_page(results) == page


def test_hostile_names_stay_text(folder: Path) -> None:
    keep(folder, "ease", "content+ease")
    change(folder, "content+ease", title=HOSTILE, dataset=HOSTILE, settings={HOSTILE: HOSTILE})
    change(folder, "ease", dataset=HOSTILE)
    attention = {
        "relations": [HOSTILE],
        "gain": [1.0],
        "sharpness": {HOSTILE: [1.0]},
        "share_by_place": {HOSTILE: [0.5, 0.5]},
        "examples": [{"user": HOSTILE, "history": [HOSTILE], "candidate": HOSTILE, "shares": [7.0]}],
    }
    (folder / "attention.json").write_text(json.dumps(attention))
    page = report_page(read_run(folder, metric="recall@20"), title=HOSTILE)
    root = tree(page)
    assert root.xpath("//script") == []
    assert root.xpath("//main/h1/text()")[0].startswith("<script>alert(1)</script>")
    assert "\u202e" not in page
    assert "\x00" not in page
    for plot in re.findall(r"<svg.*?</svg>", page, re.S):
        etree.fromstring(plot)  # strict: raises on a tag that a name has opened or closed
    assert any(
        "<script>alert" in (text.text or "") for text in root.xpath("//*[local-name()='svg']//*[local-name()='text']")
    )


def test_one_model_without_anything_else_is_a_page_that_says_so(folder: Path) -> None:
    keep(folder, "ease")
    change(folder, "ease", slices={}, beyond={}, settings={}, metrics={"recall@20": {"mean": 0, "low": 0, "high": 0}})
    (folder / "results" / "ease-0.npz").unlink()
    (folder / "attention.json").unlink()
    (folder / "provenance.json").unlink()
    page = report_page(read_run(folder, metric="recall@20"))
    said = " ".join(tree(page).text_content().split())
    for line in (
        "No other model was judged",
        "Each model was fitted with one seed",
        "This run was not judged by kinds of items or shoppers.",
        "Coverage, evenness, variety and popularity of the lists were not measured.",
        "No model of this run left a training curve.",
        "This run left no account of its attention",
        "They were not recorded with this run.",
        "No published Recall@20 on this split of planted clusters is on record.",
    ):
        assert line in said
