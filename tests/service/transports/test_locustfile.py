"""The load test runs against a real service, and its thresholds decide its exit status."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

LOCUSTFILE = Path(__file__).resolve().parents[3] / "loadtests" / "locustfile.py"


@pytest.fixture
def locust(served, bundle_root):
    """Run it for two seconds with some flags."""

    def run(*flags):
        load = ["--headless", "-u", "4", "-r", "4", "-t", "2s"]
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *load]
        where = ["--host", served.rest, "--grpc-target", served.grpc]
        return subprocess.run([*command, *where, *flags], capture_output=True, text=True, timeout=60)

    return run


def requests_made(output: str, name: str) -> int:
    return int(re.findall(rf" {name} +(\d+) +\d+\(", output)[-1])


def test_both_users_ask_and_pass(locust, bundle_root):
    result = locust("--bundles", str(bundle_root), "--max-p99-ms", "5000", "--min-rps", "1")
    assert result.returncode == 0, result.stderr
    for name in ("/recommend", "Recommend"):
        assert requests_made(result.stderr, name) > 5
    assert "122 users ask" in result.stderr


def test_a_missed_threshold_is_an_exit_status(locust, tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text("shopper-001\nshopper-002\n")
    result = locust("--user-ids", str(file), "--min-rps", "1000000", "GrpcUser")
    assert result.returncode == 1
    assert "requests/s were answered, under 1000000" in result.stderr
    assert "failed" not in result.stderr
