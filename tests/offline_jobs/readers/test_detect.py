"""Which format a folder is in."""

from pathlib import Path

import pytest

from offline_jobs.readers import FORMATS, open_shop
from service.errors import DataError
from tests.offline_jobs.readers.folders import REVIEW, Read, amazon, jsonl


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_shop(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, not a folder"):
        open_shop(tmp_path / "file")


def test_an_unrecognised_folder_lists_what_is_known_and_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "sales.xlsx").touch()
    with pytest.raises(DataError, match=r"found sales\.xlsx") as caught:
        open_shop(tmp_path)
    assert all(name in caught.value.todo for name in FORMATS)
    with pytest.raises(DataError, match=r"unknown format 'xml'.*amazon-2014"):
        open_shop(tmp_path, "xml")


def test_two_formats_in_one_folder_need_a_flag(tmp_path: Path) -> None:
    amazon(tmp_path, jsonl(REVIEW))
    (tmp_path / "x.inter").write_text("user_id\titem_id\n1\t2\n")
    with pytest.raises(DataError, match="more than one format"):
        open_shop(tmp_path)
    assert Read(tmp_path, "inter").interactions[0]["item_id"] == "2"
