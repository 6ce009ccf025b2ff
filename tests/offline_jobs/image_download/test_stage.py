"""The whole stage: the ledger, what is shared, what is asked again and what never is, kills, politeness."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from offline_jobs.image_download.stage import run_fetch_images
from training.stage import read_record

COLUMNS = {
    "item_row": pl.Int32, "item_id": pl.String, "url": pl.String, "state": pl.String, "reason": pl.String,
    "file": pl.String, "sha256": pl.String, "bytes": pl.Int64, "width": pl.Int32, "height": pl.Int32,
    "attempts": pl.Int32,
}  # fmt: skip


def test_the_ledger_is_as_agreed(server, tmp_path, patient, make_work, picture):
    images = ["images/a.jpg", f"{server.url}/good/1.jpg", None, "pictures.tar::b.jpg", f"{server.url}/none.jpg"]
    work = make_work(tmp_path, [*images, "ftp://a.example/b.jpg", f"{server.url}/good/1.jpg"])
    run_fetch_images(patient(server), work)
    ledger = pl.read_parquet(work / "images/ledger.parquet")
    assert set(ledger.columns) == set(COLUMNS)
    assert all(ledger.schema[name] == kind for name, kind in COLUMNS.items())
    assert ledger["item_row"].to_list() == [1, 4, 5, 6]
    assert ledger["item_id"].to_list() == ["item00001", "item00004", "item00005", "item00006"]
    assert ledger["state"].to_list() == ["ok", "refused", "refused", "ok"]
    assert ledger["reason"].to_list() == [None, "HTTP 404", "neither http nor https", None]
    first = ledger.row(0, named=True)
    content = picture(1)
    sha256 = hashlib.sha256(content).hexdigest()
    assert (first["sha256"], first["file"]) == (sha256, f"files/{sha256[:2]}/{sha256}.jpg")
    assert (first["bytes"], first["width"], first["height"]) == (len(content), 64, 64)
    assert (work / "images" / first["file"]).read_bytes() == content
    assert server.asked["/good/1.jpg"] == 1
    assert not (work / ".images").exists()
    counts = read_record(work / "images").counts
    assert (counts["items"], counts["ok"], counts["refused"], counts["failed"], counts["files"]) == (4, 2, 2, 0, 1)


def test_no_urls_at_all(server, tmp_path, patient, make_work, fetch):
    assert fetch(make_work(tmp_path, [None, "images/a.jpg"]), patient(server)) == []


def test_thousands_of_the_same_image_are_one_file(server, tmp_path, patient, make_work, fetch, says, http, picture):
    server.answers["/same/"] = says(http(picture(5)))
    work = make_work(tmp_path, [f"{server.url}/same/{n}.jpg" for n in range(2000)])
    rows = fetch(work, patient(server, concurrency_per_host=32, request_timeout_s=20, stall_timeout_s=20))
    assert {row["state"] for row in rows} == {"ok"}
    assert len({row["file"] for row in rows}) == 1
    assert len([path for path in (work / "images/files").rglob("*") if path.is_file()]) == 1


def test_done_is_done(server, tmp_path, patient, make_work):
    work = make_work(tmp_path, [f"{server.url}/good/{n}.jpg" for n in range(3)])
    run_fetch_images(patient(server), work)
    before = (work / "images/stage.json").stat().st_mtime_ns
    run_fetch_images(patient(server), work)
    assert (work / "images/stage.json").stat().st_mtime_ns == before
    digest = read_record(work / "images").output_digest
    run_fetch_images(patient(server, concurrency=3), work)
    assert read_record(work / "images").output_digest == digest
    assert server.asked.total() == 3


def test_new_items_ask_only_for_what_is_new(server, tmp_path, patient, make_work, fetch):
    fetch(make_work(tmp_path, [f"{server.url}/good/{n}.jpg" for n in range(3)]), patient(server))
    rows = fetch(make_work(tmp_path, [f"{server.url}/good/{n}.jpg" for n in (4, 2, 1, 0)]), patient(server))
    assert [row["state"] for row in rows] == ["ok"] * 4
    assert set(server.asked.values()) == {1}
    assert all((tmp_path / "images" / row["file"]).exists() for row in rows)


def test_failed_ones_are_asked_again_when_told_to_and_refused_ones_are_not(
    server, tmp_path, patient, make_work, fetch, says, http, picture
):
    server.answers["/late"] = says(http(b"", "503 Service Unavailable"))
    work = make_work(tmp_path, [f"{server.url}{path}" for path in ("/late", "/never", "/good/1.jpg")])
    assert [row["state"] for row in fetch(work, patient(server))] == ["failed", "refused", "ok"]
    fetch(work, patient(server, concurrency=5))
    assert server.asked["/late"] == 3
    assert fetch(work, patient(server, retry_failed=True))[0]["state"] == "failed"
    assert server.asked["/late"] == 6
    server.answers["/late"] = says(http(picture(3)))
    assert [row["state"] for row in fetch(work, patient(server, retry_failed=True))] == ["ok", "refused", "ok"]
    fetch(work, patient(server, retry_failed=True))
    fetch(work, patient(server))
    assert dict(server.asked) == {"/late": 7, "/never": 1, "/good/1.jpg": 1}


def test_other_limits_judge_anew(server, tmp_path, patient, make_work, fetch, picture, says, http):
    server.answers["/large"] = says(http(picture(1, side=256)))
    work = make_work(tmp_path, [f"{server.url}/large", f"{server.url}/good/1.jpg"])
    assert [r["reason"] for r in fetch(work, patient(server, max_pixels=10_000))] == ["too many pixels", None]
    assert [r["reason"] for r in fetch(work, patient(server))] == [None, None]
    assert [r["reason"] for r in fetch(work, patient(server, max_pixels=10_000))] == ["too many pixels", None]
    assert dict(server.asked) == {"/large": 3, "/good/1.jpg": 1}


def test_a_kill_loses_nothing_that_had_arrived(server, tmp_path, patient, make_work):
    server.delay_s = 0.02
    urls = [f"{server.url}/good/{n}.jpg" for n in range(300)]
    work = make_work(tmp_path / "work", urls)
    settings = patient(server, concurrency_per_host=4, request_timeout_s=20, stall_timeout_s=20)
    flags = [
        f"--{name.replace('_', '-')}={value}" for name, value in settings.model_dump(exclude_defaults=True).items()
    ]
    command = [sys.executable, "-m", "offline_jobs", "fetch-images", "--work", str(work), *flags]
    journal = work / ".images" / "journal.jsonl"
    arrived = 0
    for more in (40, 80):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 60
            while not journal.exists() or journal.read_bytes().count(b"\n") < arrived + more:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert not (work / "images").exists()
        arrived = journal.read_bytes().count(b"\n")
        if more == 40:
            journal.write_bytes(journal.read_bytes()[:-20])  # the last line torn, as by a crash of the machine
    noted = {json.loads(line)[0] for line in journal.read_text().splitlines()[1:]}
    before = dict(server.asked)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ledger = pl.read_parquet(work / "images/ledger.parquet")
    assert ledger["state"].to_list() == ["ok"] * 300
    again = [path for path, count in server.asked.items() if count > before.get(path, 0) and server.url + path in noted]
    assert again == []
    assert server.asked.total() <= 300 + 2 * 4 + 1
    assert not (work / ".images").exists()
    whole = {hashlib.sha256((work / "images" / file).read_bytes()).hexdigest() for file in ledger["file"]}
    assert whole == set(ledger["sha256"])


def test_a_host_is_asked_so_much_and_no_more(server, tmp_path, patient, make_work, fetch):
    server.delay_s = 0.05
    work = make_work(tmp_path, [f"{server.url}/good/{n}.jpg" for n in range(20)])
    start = time.monotonic()
    fetch(work, patient(server, concurrency_per_host=3, requests_per_second=25))
    assert time.monotonic() - start >= 19 / 25
    assert 1 < server.most_at_once <= 3


def test_when_the_runs_time_is_up_the_rest_is_noted(server, tmp_path, patient, make_work, fetch):
    server.delay_s = 0.1
    work = make_work(tmp_path, [f"{server.url}/good/{n}.jpg" for n in range(60)])
    settings = patient(server, concurrency_per_host=2, total_timeout_s=0.8)
    rows = fetch(work, settings)
    reasons = {row["reason"] for row in rows if row["state"] == "failed"}
    assert reasons == {"the run's time was up"}
    assert sum(row["state"] == "ok" for row in rows) >= 4
    server.delay_s = 0
    settings = patient(server, retry_failed=True, request_timeout_s=20)
    assert {row["state"] for row in fetch(work, settings)} == {"ok"}


@pytest.mark.parametrize("flag", ["--ports=http", "--ca-file=/nowhere.pem", "--concurrency=0"])
def test_bad_settings_are_named(flag, tmp_path, make_work):
    work = make_work(tmp_path, ["http://a.example/b.jpg"])
    command = [sys.executable, "-m", "offline_jobs", "fetch-images", "--work", str(work), flag]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert not (work / "images").exists()
