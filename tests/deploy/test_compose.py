"""The compose files and the settings of Prometheus and Grafana next to them."""

import re
from typing import Any

import pytest

from support.tools import DEPLOY, ROOT, check, documents, serve_settings

FILES = ["compose.yaml", "compose.gpu.yaml"]
SECRETS = "/run/secrets/"


def services(name: str = "compose.yaml") -> dict[str, dict[str, Any]]:
    return documents(DEPLOY / name)[0]["services"]


def seconds(text: str) -> int:
    (digits,) = re.findall(r"^(\d+)s$", text)
    return int(digits)


def test_the_compose_files_follow_the_compose_specification() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *(DEPLOY / name for name in FILES))


def test_every_yaml_file_is_clean() -> None:
    rules = "{line-length: {max: 118}, document-start: disable, comments-indentation: disable}"
    check("yamllint", "--strict", "--config-data", f"{{extends: default, rules: {rules}}}", DEPLOY)


@pytest.mark.parametrize("name", FILES)
def test_the_teacher_is_a_target_of_the_dockerfile(name: str) -> None:
    assert f" AS {services(name)['teacher']['build']['target']}\n" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", FILES)
def test_the_teacher_takes_its_flags_and_has_keys(name: str) -> None:
    teacher = services()["teacher"]
    settings = serve_settings(services(name)["teacher"]["command"])
    assert settings.keys is not None
    assert f"./secrets/teacher:{settings.keys.parent}:ro" in teacher["volumes"]  # not the file: it is replaced
    assert f"data:{settings.data}" in teacher["volumes"]
    assert str(settings.model).startswith("/models/")
    assert teacher["ports"] == [f"{settings.port}:{settings.port}"]
    assert seconds(teacher["stop_grace_period"]) > settings.drain_seconds


def test_the_teacher_writes_only_to_memory_and_its_data() -> None:
    teacher = services()["teacher"]
    assert teacher["read_only"]
    assert teacher["cap_drop"] == ["ALL"]
    assert [volume for volume in teacher["volumes"] if not volume.endswith(":ro")] == ["data:/data"]


def test_only_the_teacher_is_reached_from_outside() -> None:
    published = {name: port for name, service in services().items() for port in service["ports"]}
    assert [name for name, port in published.items() if not port.startswith("127.0.0.1:")] == ["teacher"]


def test_compose_mounts_files_that_exist_and_ignored_secrets() -> None:
    for service in services().values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("./") and not source.startswith("./secrets/"):
                assert (DEPLOY / source).exists(), source
    secrets = documents(DEPLOY / "compose.yaml")[0]["secrets"]
    assert {secret["file"] for secret in secrets.values()} == {f"secrets/{name}" for name in secrets}
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_prometheus_asks_the_teacher_with_a_key_that_is_mounted() -> None:
    prometheus = services()["prometheus"]
    config = documents(DEPLOY / "prometheus" / "prometheus.yml")[0]
    (scrape,) = config["scrape_configs"]
    assert scrape["authorization"]["credentials_file"].removeprefix(SECRETS) in prometheus["secrets"]
    assert scrape["static_configs"] == [{"targets": ["teacher:8010"]}]
    assert all((DEPLOY / "prometheus" / rules).exists() for rules in config["rule_files"])


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = documents(provisioning / "datasources" / "prometheus.yaml")[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = documents(provisioning / "dashboards" / "pad.yaml")[0]["providers"]
    mounts = dict(volume.split(":")[:2] for volume in services()["grafana"]["volumes"])
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"


def test_the_gpu_file_adds_gpus_and_shared_memory() -> None:
    (name,) = services("compose.gpu.yaml")
    teacher = services("compose.gpu.yaml")[name]
    assert name in services()
    assert teacher["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert teacher["shm_size"]
