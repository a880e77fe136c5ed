"""Keys and host names: who is answered, and who sees which usage."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from pad_teacher.admission.keys import add_key
from support.app import Running, full_logs

pytestmark = pytest.mark.anyio

ROUTES = ["/v1/likelihood", "/v1/selection", "/v1/score", "/v1/completions", "/v1/models", "/v1/usage"]
ABOUT = ["/metrics", "/nothing", "/assets/nothing"]
ONE = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic eDp5", "Bearer", "Bearer ü".encode()])
async def test_no_route_of_the_teacher_answers_without_a_known_key(
    running: Running, tmp_path: Path, authorization: str | bytes | None
) -> None:
    add_key(tmp_path / "keys", "lab")
    headers: Any = {"Authorization": authorization} if authorization else {}
    async with running(keys=tmp_path / "keys") as (client, _):
        for route in ROUTES + ABOUT:
            for method in ("GET", "POST", "DELETE"):
                reply = await client.request(method, route, headers=headers)
                assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")
        assert (await client.get("/v1/health/live")).status_code == 200
        assert (await client.get("/v1/health/ready")).status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_a_key_sees_only_its_own_jobs(running: Running, tmp_path: Path) -> None:
    keys = {name: {"Authorization": f"Bearer {add_key(tmp_path / 'keys', name)}"} for name in ("a", "b")}
    async with running(keys=tmp_path / "keys") as (client, _):
        assert (await client.post("/v1/score", json=ONE, headers=keys["a"])).status_code == 200
        assert len((await client.get("/v1/usage", headers=keys["a"])).json()["jobs"]) == 1
        assert (await client.get("/v1/usage", headers=keys["b"])).json()["jobs"] == []


async def test_a_key_never_appears_in_the_logs(
    running: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = add_key(tmp_path / "keys", "lab")
    with full_logs():
        async with running(keys=tmp_path / "keys") as (client, _):
            await client.post("/v1/score", json=ONE, headers={"Authorization": f"Bearer {key}"})
    output = capfd.readouterr()
    assert '"key": "lab"' in output.err
    assert key not in output.out + output.err
    assert key not in (tmp_path / "keys").read_text()


@pytest.mark.parametrize("host", ["localhost:8010", "127.0.0.1", "[::1]:8010", "127.0.0.53:1"])
async def test_without_keys_this_machine_is_served_under_its_own_names(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/v1/models", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil", "10.0.0.1"])
async def test_without_keys_another_name_for_this_machine_is_refused(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/v1/models", headers={"Host": host})).status_code == 401


FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost.evil:8010"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": ""},
]
OWN: list[dict[str, str]] = [
    {},
    {"Content-Type": "application/json; charset=utf-8"},
    {"Origin": "http://127.0.0.1:8010", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_without_keys_no_web_page_of_another_site_is_served(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    body = json.dumps(ONE).encode()
    for route in ("/v1/score", "/v1/completions", "/nothing"):
        reply = await client.post(route, content=body, headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")
    assert (await client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", OWN)
async def test_without_keys_this_machines_own_pages_are_served(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await client.post("/v1/score", content=json.dumps(ONE), headers=headers)).status_code == 200


async def test_with_keys_a_page_may_ask_for_who_holds_one(running: Running, tmp_path: Path) -> None:
    key = {"Authorization": f"Bearer {add_key(tmp_path / 'keys', 'lab')}"}
    async with running(keys=tmp_path / "keys") as (client, _):
        for headers in FOREIGN:
            reply = await client.post("/v1/score", content=json.dumps(ONE), headers=key | headers)
            assert reply.status_code == 200


async def test_on_a_trusted_network_any_name_is_served_if_asked_for(running: Running) -> None:
    async with running(host="0.0.0.0", allow_anonymous=True) as (client, _):
        lan = {"Host": "teacher.lan:8010"}
        assert (await client.get("/v1/models", headers=lan)).status_code == 200
        own = lan | {"Origin": "http://teacher.lan:8010"}
        assert (await client.post("/v1/score", json=ONE, headers=own)).status_code == 200
        foreign = lan | {"Origin": "http://evil.example"}
        assert (await client.post("/v1/score", json=ONE, headers=foreign)).status_code == 403
