from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from service.metric_cells import Spread
from service.metrics import Metrics, worker_died

ROOT = Path(__file__).parents[2]


def test_every_metric_is_rendered_under_its_name() -> None:
    metrics = Metrics()
    metrics.observe_request(route="/recommend", status="200", strategy="personal", seconds=0.0004)
    metrics.observe_request(route="/recommend", status="500", strategy="", seconds=0.2)
    metrics.observe_stage("rerank", 0.0003)
    metrics.count_cache("redis", "hit")
    metrics.count_degraded("rerank_failed")
    metrics.count_impression("written")
    metrics.count_shed("queue")
    metrics.count_event("click")
    metrics.count_plan("exact")
    metrics.observe_recall(0.97)
    metrics.observe_answer("personal", 0.6, 0.25)
    metrics.observe_shadow(0.5, 0.002)
    metrics.count_shadow("compared")
    metrics.count_load("default", "refused")
    metrics.count_restart()
    metrics.bundle_serves("default", "v0", "abc")
    metrics.bundle_serves("default", "v1", "def")
    metrics.bundle_retired("default", "v0", "abc")
    metrics.bundle_current("default")
    metrics.set_live_items("default", 7)
    metrics.set_follower_lag("default", "states", 0.25)
    with metrics.in_flight():
        families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    request = ("plotpointe_request_duration_seconds_bucket", ("le", "0.0005"), ("route", "/recommend"))
    assert samples[(*request, ("status", "200"), ("strategy", "personal"))] == 1
    assert samples[(*request, ("status", "500"), ("strategy", ""))] == 0
    assert samples["plotpointe_stage_duration_seconds_count", ("stage", "rerank")] == 1
    assert samples["plotpointe_cache_requests_total", ("result", "hit"), ("tier", "redis")] == 1
    assert samples["plotpointe_degraded_total", ("reason", "rerank_failed")] == 1
    assert samples["plotpointe_impressions_total", ("result", "written")] == 1
    assert samples["plotpointe_shed_total", ("reason", "queue")] == 1
    assert samples["plotpointe_events_total", ("kind", "click")] == 1
    assert samples["plotpointe_retrieval_plan_total", ("plan", "exact")] == 1
    assert samples["plotpointe_retrieval_recall_ratio_bucket", ("le", "0.95")] == 0
    assert samples["plotpointe_retrieval_recall_ratio_bucket", ("le", "0.98")] == 1
    top = ("plotpointe_top_score_bucket", ("le", "0.75"), ("strategy", "personal"))
    assert samples[top] == 1
    assert samples[("plotpointe_cold_items_served_ratio_sum",)] == 0.25
    assert samples[("plotpointe_shadow_overlap_ratio_sum",)] == 0.5
    assert samples["plotpointe_shadow_total", ("result", "compared")] == 1
    assert samples["plotpointe_bundle_loads_total", ("result", "refused"), ("tenant", "default")] == 1
    assert samples[("plotpointe_worker_restarts_total",)] == 1
    model = {key[1:]: value for key, value in samples.items() if key[0] == "plotpointe_model_info"}
    assert sorted((dict(labels)["version"], value) for labels, value in model.items()) == [("v0", 0), ("v1", 1)]
    assert samples[("plotpointe_inflight_requests",)] == 1
    assert samples["plotpointe_bundle_loaded_timestamp_seconds", ("tenant", "default")] > 1.6e9
    assert samples["plotpointe_live_items", ("tenant", "default")] == 7
    assert samples["plotpointe_follower_lag_seconds", ("follower", "states"), ("tenant", "default")] == 0.25
    assert families["process_cpu_seconds"].type == "counter"


def test_every_metric_is_in_the_docs_in_its_own_words() -> None:
    docs = (ROOT / "docs" / "OPERATING.md").read_text()
    own = [family for family in Metrics().registry.collect() if family.name.startswith("plotpointe_")]
    assert len(own) > 15
    for family in own:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert re.search(rf"^\| `{name}` \| .* \| {re.escape(family.documentation)} \|$", docs, re.MULTILINE), name


def test_two_services_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.count_degraded("rerank_failed")
    assert b"rerank_failed" not in two.render()


BOUNDS = (0.1, 0.5, 1.0)


@given(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.1, 0.3, 0.5, 0.75, 1.0, 2.0]))))
def test_what_is_added_up_first_is_what_the_library_would_have_counted(flushes: list[list[float]]) -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    direct, behind = (Histogram("h", "h", buckets=BOUNDS, registry=registry) for registry in registries)
    spread = Spread(behind)
    for values in flushes:
        for value in values:
            direct.observe(value)
            spread.observe(value)
        spread.flush()
    for name, labels in [
        ("h_sum", {}),
        ("h_count", {}),
        *(("h_bucket", {"le": le}) for le in ("0.1", "0.5", "1.0", "+Inf")),
    ]:
        one, two = (registry.get_sample_value(name, labels) for registry in registries)
        assert one is not None
        assert abs(one - two) < 1e-9


WORKER = """
import sys
from pathlib import Path
from service.metrics import Metrics, share_between_processes

folder, worker, requests = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
share_between_processes(folder, worker)
metrics = Metrics(folder=folder)
for _ in range(requests):
    metrics.count_cache("memory", "hit")
    metrics.observe_request(route="/recommend", status="200", strategy="personal", seconds=0.004)
metrics.bundle_serves("default", "v1", "abc")
if worker:
    metrics.bundle_retired("default", "v1", "abc")
with metrics.in_flight():
    metrics.flush()
    print("ready", flush=True)
    sys.stdin.readline()
print(metrics.render().decode(), end="end\\n")
sys.stdout.flush()
sys.stdin.readline()
"""


class Worker:
    def __init__(self, folder: Path, number: int, requests: int) -> None:
        command = [sys.executable, "-c", WORKER, str(folder), str(number), str(requests)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def render(self) -> str:
        """What this worker answers a scrape with."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        text = ""
        while not text.endswith("\nend\n"):
            text += self.process.stdout.readline()
        return text


def number(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_the_numbers_of_several_workers_add_up_and_outlive_a_death(tmp_path: Path) -> None:
    workers = [Worker(tmp_path, 0, 30), Worker(tmp_path, 1, 12)]
    try:
        workers[1].process.send_signal(signal.SIGKILL)
        workers[1].process.communicate()
        worker_died(tmp_path, 1)
        workers[1] = Worker(tmp_path, 1, 5)
        text = workers[0].render()
        assert number(text, 'plotpointe_cache_requests_total{result="hit",tier="memory"}') == 47
        count = 'plotpointe_request_duration_seconds_count{route="/recommend",status="200",strategy="personal"}'
        assert number(text, count) == 47
        assert number(text, 'plotpointe_model_info{checksum="abc",tenant="default",version="v1"}') == 1
        assert number(text, "plotpointe_inflight_requests") == 1  # the one that asks has just left its own
        assert number(text, "process_cpu_seconds_total") > 0.2
        assert "pid=" not in text
        assert not [line for line in text.splitlines() if line.startswith("# TYPE") and "unknown" in line]
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.communicate()
