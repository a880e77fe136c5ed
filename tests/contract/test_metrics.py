"""What a service says of itself while it runs: the metrics' names and sums, and the lines of its log."""

import json
from pathlib import Path

import pytest

from pad_teacher.admission import key_ring, usage
from pad_teacher.admission.client import Client
from pad_teacher.runtime import metrics
from pad_teacher.runtime.metrics import MAX_JOBS, Metrics
from pad_wire import Usage
from support.app import ONE, Running, bearer, full_logs, score

pytestmark = pytest.mark.anyio

ONE_TOKEN = Usage(prompt_tokens=1, response_tokens=0, question_tokens=0, total_tokens=1)

NAMES = {
    "pad_requests_total",
    "pad_request_seconds_count",
    "pad_requests_in_flight",
    "pad_refusals_total",
    "pad_teacher_tokens_total",
    "pad_job_tokens_total",
    "pad_dropped_tokens_total",
    "pad_queued_requests",
    "pad_queued_tokens",
    "pad_wait_seconds_count",
    "pad_batch_tokens_count",
    "pad_batch_seconds_count",
    "pad_label_mass_count",
    "pad_ready",
    "pad_key_file_wrong",
    "pad_cache_hits_total",
    "pad_cache_misses_total",
    "pad_cache_bytes",
    "pad_sets_of_one_text_total",
    "pad_shared_in_flight_total",
}


async def test_the_names_of_the_metrics_are_those_that_dashboards_know(running: Running, tmp_path: Path) -> None:
    key = bearer(tmp_path, "lab", metrics=True)
    async with running(cache_bytes=0, keys=tmp_path / "keys") as (client, _):
        await client.post("/v1/score", json=ONE, headers=key | {"X-Job-Id": "a"})
        await client.post("/v1/score", json=ONE)
        await client.post("/v1/score", json={}, headers=key)
        await score(client, key | {"X-Deadline-Ms": "0"})
        text = (await client.get("/metrics", headers=key)).text
    shown = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    endings = ("_created", "_bucket", "_sum")
    assert {name for name in shown if not name.endswith(endings)} | {"pad_dropped_tokens_total"} == NAMES
    assert 'pad_job_tokens_total{client_job="a",key="lab"}' in text
    assert 'pad_refusals_total{reason="unauthorized"} 1.0' in text
    assert 'pad_refusals_total{reason="invalid_request"} 2.0' in text
    assert "pad_requests_in_flight 1.0" in text  # the one that asks
    assert "pad_wait_seconds_count 1.0" in text


def test_job_series_are_bounded_and_no_token_is_lost() -> None:
    counted = Metrics()
    for k in range(3 * MAX_JOBS):
        counted.job("lab", f"job{k}", 2)
    counted.job("lab", "job0", 2)
    samples = [s for m in counted.job_tokens.collect() for s in m.samples if s.name.endswith("_total")]
    assert len(samples) == MAX_JOBS + 1
    assert sum(sample.value for sample in samples) == 2 * (3 * MAX_JOBS + 1)
    assert {s.labels["client_job"]: s.value for s in samples}[metrics.OTHER_JOBS] == 4 * MAX_JOBS


async def test_each_key_has_its_own_bound_of_job_names(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether in /metrics or in /v1/usage."""
    monkeypatch.setattr(metrics, "MAX_JOBS", 3)
    monkeypatch.setattr(usage, "MAX_JOBS", 3)
    async with running() as (_, service):
        for k in range(5):
            service.usage.count(Client("noisy", f"job{k}"), ONE_TOKEN)
        service.usage.count(Client("quiet", "nightly"), ONE_TOKEN)
        jobs = {
            key: [job.job for job in service.usage.reply_for(Client(key, ""))().jobs] for key in ("noisy", "quiet")
        }
    assert jobs == {"noisy": ["job0", "job1", "job2", metrics.OTHER_JOBS], "quiet": ["nightly"]}
    labels = [sample.labels for family in service.metrics.job_tokens.collect() for sample in family.samples]
    assert {"key": "quiet", "client_job": "nightly"} in labels
    assert {"key": "noisy", "client_job": "job3"} not in labels


async def test_only_keys_made_for_it_read_the_metrics(running: Running, tmp_path: Path) -> None:
    lab, prometheus = bearer(tmp_path, "lab"), bearer(tmp_path, "prometheus", metrics=True)
    async with running(keys=tmp_path / "keys") as (client, _):
        await score(client, lab | {"X-Job-Id": "secret-project"})
        refused = await client.get("/metrics", headers=lab)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert "secret-project" in (await client.get("/metrics", headers=prometheus)).text


async def test_a_key_file_that_breaks_is_a_metric(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "RELOAD_SECONDS", 0)
    key = bearer(tmp_path, "prometheus", metrics=True)
    whole = (tmp_path / "keys").read_text()
    async with running(keys=tmp_path / "keys") as (client, _):
        for content, wrong in ((whole, 0), (whole + "half a line", 1), (whole + "\n", 0)):
            (tmp_path / "keys").write_text(content)
            assert f"pad_key_file_wrong {wrong}.0" in (await client.get("/metrics", headers=key)).text


async def test_every_log_line_of_a_request_has_its_id_key_and_job(
    running: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = bearer(tmp_path, "lab") | {"X-Job-Id": "nightly", "X-Request-Id": "r1"}
    with full_logs():
        async with running(cache_bytes=0, keys=tmp_path / "keys", max_queued_tokens=20) as (client, _):
            await score(client, key)
            await client.post("/v1/score", json={"sets": ONE["sets"] * 9}, headers=key)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line.get("event") == "request"]
    assert [(line["request_id"], line["key"], line["job"]) for line in requests] == [("r1", "lab", "nightly")] * 2
    assert [line.get("error") for line in requests] == [None, "too_long"]
