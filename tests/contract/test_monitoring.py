"""Dashboard and alerts against what a running service exports, by the parsers of Prometheus' own language."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.anyio

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "pad-teacher.json").read_text())
RULES = {rule["alert"]: rule["expr"] for group in ALERTS for rule in group["rules"]}
PANELS = {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in DASHBOARD["panels"]}
ROUTES = ("likelihood", "selection", "score", "token_logprobs", "completions")


def expressions() -> list[str]:
    return [*RULES.values(), *(expression for several in PANELS.values() for expression in several)]


def selectors(node: Any) -> list[Any]:
    """Every vector selector below a node of a parsed expression."""
    found = [node] if isinstance(node, promql_parser.VectorSelector) else []
    parts = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector", "args")]
    for part in parts:
        for child in part if isinstance(part, list) else [part]:
            found += selectors(child) if child is not None else []
    return found


async def exported(client: httpx.AsyncClient) -> dict[str, set[str]]:
    """Label names of each series that the service shows after one scored set."""
    one = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}
    assert (await client.post("/v1/score", json=one)).status_code == 200
    series: dict[str, set[str]] = {}
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return series


async def test_every_series_of_dashboard_and_alerts_is_exported(client: httpx.AsyncClient) -> None:
    series = await exported(client) | {"up": set()}
    scraped = {"job", "instance"}  # Prometheus adds these
    for expression in expressions():
        used = selectors(promql_parser.parse(expression))
        assert used, expression
        for selector in used:
            assert selector.name in series, expression
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= series[selector.name] | scraped, expression


async def test_every_series_of_the_service_is_on_the_dashboard(client: httpx.AsyncClient) -> None:
    shown = " ".join(expression for several in PANELS.values() for expression in several)
    families = {re.sub(r"_(total|created|bucket|sum|count)$", "", name) for name in await exported(client)}
    assert all(family in shown for family in families)


async def test_the_routes_that_are_watched_are_those_that_score(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    posts = {path.removeprefix("/v1/") for path, methods in paths.items() if "post" in methods}
    assert posts == set(ROUTES)
    for expression in expressions():
        for watched in re.findall(r'route=~"([^"]*)"', expression):
            assert watched == f"/v1/({'|'.join(ROUTES)})"


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for group in ALERTS:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert {"summary", "action"} <= rule["annotations"].keys()


def test_every_panel_is_placed_and_asks_the_provisioned_source() -> None:
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(PANELS)
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == source["datasources"][0]["uid"]


def test_each_alert_fires_when_due_and_none_if_all_is_well() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert "CI" not in os.environ, "promtool is missing: it is in Debian's package prometheus"
        pytest.skip("promtool is not installed; .ci/run brings it")
    for check in (["check", "config", "--syntax-only", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        ran = subprocess.run(
            [promtool, *check], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
    fired = set(re.findall(r'alertname="(\w+)"', (DEPLOY / "prometheus" / "alerts_test.yml").read_text()))
    assert fired == RULES.keys()
