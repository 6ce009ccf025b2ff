"""What the status says of a work folder, as a table, as JSON and as a picture."""

import contextlib
import json
import xml.etree.ElementTree as ET

import pytest
from PIL import Image
from pydantic import BaseModel

from offline_jobs.stage_graph import graph_of
from offline_jobs.status import outdated, print_status, records, status_lines
from service.errors import InputError
from training.stage import open_stage


class Size(BaseModel):
    n: int = 0


def finish(work, name, *, n=0, **inputs):
    """A finished stage that holds a number."""
    with open_stage(work, name, version=1, inputs=inputs, settings=Size(n=n)) as stage:
        if not stage.fresh:
            (stage.out / "items.parquet").write_text(str(n))


@pytest.fixture
def work(tmp_path):
    """A folder of which the first stages have run, and ingest again with other settings."""
    folder = tmp_path / "work"
    finish(folder, "ingest")
    finish(folder, "split", ingest=folder / "ingest")
    finish(folder, "text_embeddings", items=folder / "ingest" / "items.parquet")
    finish(folder, "fusion", split=folder / "split", text_embeddings=folder / "text_embeddings")
    assert outdated(records(folder)) == {}
    finish(folder, "ingest", n=1)
    return folder


def states(work):
    return {line.command: line.state for line in status_lines(work)}


def test_status_knows_what_a_change_made_outdated(work, capsys):
    assert outdated(records(work)) == {"split": "ingest", "text_embeddings": "ingest", "fusion": "text_embeddings"}
    finish(work, "split", n=1, ingest=work / "ingest")
    assert outdated(records(work))["fusion"] == "text_embeddings"
    assert states(work)["ingest"] == "done"
    assert states(work)["fuse"] == "outdated: text_embeddings has changed"
    assert states(work)["graph"] == "has not run"
    print_status(work, False, None)
    assert "outdated: text_embeddings has changed" in capsys.readouterr().out


def test_status_tells_what_runs_from_what_was_interrupted(work):
    with (
        contextlib.suppress(KeyboardInterrupt),
        open_stage(work, "graphs", version=1, inputs={"fusion": work / "fusion"}, settings=Size()),
    ):
        assert states(work)["graph"] == "running now"
        raise KeyboardInterrupt
    assert states(work)["graph"] == "interrupted: goes on from there"


def test_an_optional_stage_is_shown_only_where_it_ran(work):
    assert "fetch-images" not in states(work)
    assert not any("images" in line.reads for line in status_lines(work))
    finish(work, "images", items=work / "ingest" / "items.parquet")
    assert states(work)["fetch-images"] == "done"
    assert next(line for line in status_lines(work) if line.command == "embed-images").reads == ("ingest", "images")


def test_json_has_a_line_a_stage(work, capsys):
    print_status(work, True, None)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["command"] for line in lines] == [line.command for line in status_lines(work)]
    assert lines[0]["peak_mib"] > 1
    assert lines[-1]["seconds"] is None


def test_the_graph_has_every_stage_and_no_edge_that_a_longer_way_implies(work):
    graph = graph_of(status_lines(work))
    assert set(graph.nodes) == {line.stage for line in status_lines(work)}
    assert graph.has_edge("text_embeddings", "fusion")
    assert not graph.has_edge("ingest", "fusion")


def test_the_picture_names_every_command_and_is_the_same_each_time(work, tmp_path):
    for name in ("once.svg", "again.svg"):
        print_status(work, True, tmp_path / name)
    drawn = (tmp_path / "once.svg").read_text()
    assert drawn == (tmp_path / "again.svg").read_text()
    words = {text.text for text in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")}
    assert {line.command for line in status_lines(work)} <= words
    print_status(work, True, tmp_path / "once.png")
    with Image.open(tmp_path / "once.png") as picture:
        assert picture.width > 1000


def test_what_cannot_be_drawn_or_read_is_an_error(work, tmp_path):
    with pytest.raises(InputError, match=r"'\.doc' is no kind of picture"):
        print_status(work, False, tmp_path / "stages.doc")
    with pytest.raises(InputError, match="no such folder"):
        print_status(tmp_path / "nothing", False, None)
