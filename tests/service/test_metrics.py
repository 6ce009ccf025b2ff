from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics


def test_every_metric_is_rendered_under_its_name() -> None:
    metrics = Metrics()
    metrics.observe_request(route="/recommend", status="200", strategy="personal", seconds=0.0004)
    metrics.observe_request(route="/recommend", status="500", strategy="", seconds=0.2)
    metrics.observe_stage("rerank", 0.0003)
    metrics.count_cache("redis", "hit")
    metrics.count_degraded("rerank_failed")
    metrics.count_impression("written")
    metrics.bundle_loaded("v1")
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
    assert samples["plotpointe_model_info", ("version", "v1")] == 1
    assert samples[("plotpointe_inflight_requests",)] == 1
    assert samples[("plotpointe_bundle_loaded_timestamp_seconds",)] > 1.6e9
    assert families["process_cpu_seconds"].type == "counter"


def test_two_services_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.count_degraded("rerank_failed")
    assert b"rerank_failed" not in two.render()
