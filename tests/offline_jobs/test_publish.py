"""Whether a new bundle may take the active one's place. Publishing itself: tests/end_to_end/test_published.py."""

import logging

import polars as pl
import pytest

from offline_jobs.publish import PublishSettings, _add_attributes, active_manifest, run_publish, worse
from service.bundle.files import load_coded
from service.bundle.manifest import Evaluation, FaissIndex, Manifest
from service.bundle.reader import attribute
from service.bundle.store import CURRENT
from service.bundle.writer import new_bundle
from service.errors import StageError


def manifest(version: str, metrics: dict[str, float], **changed) -> Manifest:
    fields = {
        "version": version,
        "created_at": "2020-09-22T00:00:00+00:00",
        "code_version": "0.1.0",
        "data_fingerprint": "the same",
        "as_of": 0,
        "num_items": 3,
        "num_users": 2,
        "dim": 8,
        "history_length": 5,
        "num_candidates": 3,
        "relations": (),
        "index": FaissIndex(factory="Flat", dim=8, ntotal=3, recall_at={3: 1.0}, queries=2),
        "models": {},
        "encoders": {},
        "evaluation": Evaluation(protocol="last day", users=2, metrics=metrics, baselines={}),
        "files": {},
    }
    return Manifest(**fields | changed)


ACTIVE = manifest("old", {"recall@20": 0.10, "ndcg@20": 0.05})


@pytest.mark.parametrize(("recall", "allowed"), [(0.2, True), (0.1, True), (0.0951, True), (0.0949, False), (0, False)])
def test_a_share_of_the_metric_may_be_lost_and_no_more(recall, allowed):
    reason = worse(manifest("new", {"recall@20": recall}), ACTIVE, PublishSettings(max_drop=0.05))
    assert (reason == "") is allowed
    if not allowed:
        assert "recall@20 fell from 0.1000 (old)" in reason


def test_another_metric_may_decide():
    new = manifest("new", {"recall@20": 0.5, "ndcg@20": 0.01})
    assert not worse(new, ACTIVE, PublishSettings())
    assert "ndcg@20" in worse(new, ACTIVE, PublishSettings(metric="ndcg@20"))


def test_a_metric_that_got_lost_counts_as_none():
    assert "to 0.0000" in worse(manifest("new", {}), ACTIVE, PublishSettings())


def test_only_the_same_data_and_protocol_are_compared(caplog):
    caplog.set_level(logging.INFO)
    other_data = manifest("new", {"recall@20": 0.0}, data_fingerprint="another")
    judged = Evaluation(protocol="random", users=2, metrics={"recall@20": 0.0}, baselines={})
    for new in (other_data, manifest("new", {}, evaluation=judged)):
        assert worse(new, ACTIVE, PublishSettings()) == ""
    assert caplog.text.count("not compared") == 2
    assert worse(manifest("new", {}), None, PublishSettings()) == ""


def test_a_broken_active_bundle_does_not_stand_in_the_way(tmp_path, caplog):
    assert active_manifest(tmp_path) is None
    (tmp_path / CURRENT).write_text("v1\n")
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "manifest.json").write_text('{"format_version": 99}')
    assert active_manifest(tmp_path) is None
    assert "cannot be compared with" in caplog.text


def test_a_stage_that_has_not_run_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(StageError, match="stage 'ingest' has not run"):
        run_publish(PublishSettings(), tmp_path / "work", tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


def test_every_attribute_that_ingest_kept_becomes_a_column(tmp_path):
    (tmp_path / "work" / "ingest").mkdir(parents=True)
    columns = {"attribute.colour": ["red", None, "red"], "title": ["a", "b", "c"], "attribute.size": [None, "S", "M"]}
    pl.DataFrame(columns).write_parquet(tmp_path / "work" / "ingest" / "items.parquet")
    with new_bundle(tmp_path / "bundles") as draft:
        names = _add_attributes(draft, tmp_path / "work")
        found = {name: load_coded(draft.directory, attribute(name)) for name in names}
    assert {name: [column.value(row) for row in range(3)] for name, column in found.items()} == {
        "colour": ["red", None, "red"],
        "size": [None, "S", "M"],
    }
    assert list(found["colour"].names) == ["red"]
