"""The contract only grows: `buf breaking` holds the proto file against the baselines of what was served before.

`baseline/` keeps one file for each state of the contract that clients were built from. A state is added when the
service is released with it, and never changed.
"""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from protos.generate import PROTO, ROOT

BUF = Path(sysconfig.get_path("scripts")) / "buf"
BASELINES = sorted((Path(__file__).parent / "baseline").glob("*.proto"))


def breaks(text: str, baseline: Path, folder: Path) -> list[str]:
    """What `buf` finds in `text` that would break a client built from `baseline`; one line a finding."""
    for name, content in (("now", text), ("then", baseline.read_text("utf-8"))):
        (folder / name).mkdir()
        (folder / name / "recommender.proto").write_text(content, "utf-8")
    command = [str(BUF), "breaking", str(folder / "now"), "--against", str(folder / "then")]
    result = subprocess.run(command, capture_output=True, text=True, env={"HOME": str(folder)}, timeout=60)
    shutil.rmtree(folder / "now")
    shutil.rmtree(folder / "then")
    assert result.returncode in (0, 100), result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda path: path.stem)
def test_nothing_that_was_served_is_broken(baseline, tmp_path):
    assert breaks((ROOT / PROTO).read_text("utf-8"), baseline, tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("int32 dim = 8;", "int64 dim = 8;", "changed type"),
        ("string title = 4;", "string title = 14;", 'field "4" with name "title"'),
        ("string title = 4;", "string name = 4;", "changed name"),
        ("optional int32 k = 2;", "int32 k = 2;", "changed cardinality"),
        ("rpc GetModel(", "rpc GetTheModel(", "GetModel"),
        ("package plotpointe.v1;", "package plotpointe.v2;", "package"),
    ],
)
def test_a_breaking_change_is_found(old, new, finding, tmp_path):
    text = (ROOT / PROTO).read_text("utf-8")
    assert old in text
    findings = breaks(text.replace(old, new), BASELINES[-1], tmp_path)
    assert finding.lower() in " ".join(findings).lower()


def test_the_newest_baseline_is_the_whole_contract(tmp_path):
    """Else a field that is served already could be renumbered unseen: copy the file to `baseline/` on release."""
    then = (Path(__file__).parent / "baseline" / "recommender.v1.proto").read_text("utf-8")
    now = tmp_path / "now.proto"
    now.write_text((ROOT / PROTO).read_text("utf-8"), "utf-8")
    assert breaks(then, now, tmp_path) == []
