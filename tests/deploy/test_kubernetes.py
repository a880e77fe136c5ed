"""The manifests for Kubernetes."""

from typing import Any

import pytest

from support.tools import DEPLOY, UID, check, documents, serve_settings

MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
# The oldest release that has all that is asked for, and the newest that the tool knows.
VERSIONS = ["1.29.0", "1.37.0"]


def kinds() -> dict[str, Any]:
    return {document["kind"]: document for path in MANIFESTS for document in documents(path)}


def pod() -> dict[str, Any]:
    return kinds()["Deployment"]["spec"]["template"]["spec"]


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_manifest(version: str) -> None:
    check("kubernetes-validate", "--strict", "--no-warn", "-k", version, *MANIFESTS)


def test_the_teacher_has_its_flags_and_the_keys_of_a_secret() -> None:
    settings = serve_settings(container()["args"])
    mounts = {mount["mountPath"]: mount for mount in container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert settings.keys is not None
    keys = mounts[str(settings.keys.parent)]
    assert "subPath" not in keys  # a key added later would not be seen
    assert "secret" in volumes[keys["name"]]
    assert mounts["/models"]["readOnly"]
    assert pod()["terminationGracePeriodSeconds"] > settings.drain_seconds


def test_probes_ask_health_routes_on_the_teachers_port() -> None:
    (port,) = container()["ports"]
    assert port["containerPort"] == serve_settings(container()["args"]).port
    routes = {kind: container()[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert all(get["port"] == port["name"] for get in routes.values())
    assert {kind: get["path"].removeprefix("/v1/health/") for kind, get in routes.items()} == {
        "startup": "ready",
        "readiness": "ready",
        "liveness": "live",
    }


def test_reading_large_weights_may_take_an_hour() -> None:
    probe = container()["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 3600
    assert kinds()["Deployment"]["spec"]["progressDeadlineSeconds"] > 3600


def test_the_teacher_is_not_root_and_writes_to_scratch_and_data() -> None:
    assert pod()["securityContext"]["runAsNonRoot"]
    assert pod()["securityContext"]["runAsUser"] == UID
    assert not pod()["automountServiceAccountToken"]
    assert pod()["enableServiceLinks"] is False
    security = container()["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    scratch = {volume["name"] for volume in pod()["volumes"] if "emptyDir" in volume}
    assert {mount["name"] for mount in container()["volumeMounts"] if not mount.get("readOnly")} == scratch | {"data"}
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert str(serve_settings(container()["args"]).data) == mounts["data"]


def test_every_selector_finds_the_teacher_and_its_claim() -> None:
    labels = kinds()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds()["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert kinds()["Service"]["spec"]["selector"] == labels
    assert kinds()["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert kinds()["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod()["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    made = [each for path in MANIFESTS for each in documents(path) if each["kind"] == "PersistentVolumeClaim"]
    assert sorted(claims) == sorted(claim["metadata"]["name"] for claim in made)


def test_the_service_leads_to_the_named_port() -> None:
    (port,) = kinds()["Service"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (8010, container()["ports"][0]["name"])
