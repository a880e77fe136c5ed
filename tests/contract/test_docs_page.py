"""``/docs`` and ``/openapi.json``: open to all, complete, and needing no other host."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from pad_teacher.admission.keys import add_key
from pad_wire import ErrorReply
from support.app import Running

pytestmark = pytest.mark.anyio

PAGES = ["/docs", "/openapi.json", "/assets/page.css", "/assets/icon.svg"]


async def description(client: httpx.AsyncClient) -> dict[str, Any]:
    return (await client.get("/openapi.json")).json()


async def routes(client: httpx.AsyncClient) -> list[tuple[str, str, dict[str, Any]]]:
    paths = (await description(client))["paths"]
    return [(method, path, route) for path, methods in paths.items() for method, route in methods.items()]


def example(holder: dict[str, Any]) -> Any:
    return holder["content"]["application/json"]["example"]


@pytest.mark.parametrize("path", PAGES)
async def test_documents_need_no_key_and_stay_on_this_host(running: Running, tmp_path: Path, path: str) -> None:
    add_key(tmp_path / "keys", "lab")
    async with running(keys=tmp_path / "keys") as (client, _):
        reply = await client.get(path)
        assert reply.status_code == 200
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
        assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//|@import|url\(""", reply.text)
        assert (await client.post(path)).status_code == 405
        assert (await client.get("/assets/docs.py")).status_code == 401


async def test_the_page_names_every_route_and_links_every_model(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    for method, path, route in await routes(client):
        assert f">{method.upper()} {path}<" in page
        assert f'id="{route["operationId"]}"' in page
    anchors = set(re.findall(r'id="(\w+)"', page))
    assert set(re.findall(r'href="#(\w+)"', page)) <= anchors
    assert anchors >= (await description(client))["components"]["schemas"].keys()


async def test_the_pages_commands_ask_addresses_that_there_are(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    addresses = re.findall(r"curl -s \$TEACHER(\S+?)[\s<]", page)
    assert len(addresses) == len(await routes(client))
    assert "/v1/models/teacher" in addresses
    assert not [address for address in addresses if "{" in address]


async def test_every_field_and_parameter_is_described(client: httpx.AsyncClient) -> None:
    api = await description(client)
    for name, model in api["components"]["schemas"].items():
        assert model.get("description"), name
        assert all(field.get("description") for field in model["properties"].values()), name
    for _, path, route in await routes(client):
        assert route["summary"]
        assert all(each.get("description") for each in route.get("parameters", ())), path


async def test_every_example_is_answered_in_the_shape_of_its_reply(client: httpx.AsyncClient) -> None:
    for method, path, route in await routes(client):
        asked = example(route["requestBody"]) if "requestBody" in route else None
        shown = example(route["responses"]["200"])
        reply = await client.request(method.upper(), path.replace("{model}", "fake"), json=asked)
        assert reply.status_code == 200, path
        if path != "/v1/usage":  # that key of the example has a budget
            assert shape(reply.json()) == shape(shown), path


def shape(value: Any) -> Any:
    """The names of an object's fields at every depth; of a list, those of its first item."""
    if isinstance(value, dict) and "<|end|>" not in value:
        return {name: shape(each) for name, each in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


async def test_an_unknown_route_is_told_which_routes_there_are(client: httpx.AsyncClient) -> None:
    error = ErrorReply.model_validate_json((await client.get("/v1/scores?secret=1")).content).error
    assert error.code == "not_found"
    assert error.message.startswith("no such route; did you mean /v1/score? there are POST /v1/likelihood, ")
    for _, path, _ in await routes(client):
        assert path in error.message
    assert "secret" not in error.message
    near = ErrorReply.model_validate_json((await client.get("/v1/model/model")).content).error
    assert "did you mean /v1/models/{model}?" in near.message


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/generate"])
async def test_who_wants_text_is_told_what_scores_and_generates(client: httpx.AsyncClient, path: str) -> None:
    error = (await client.post(path, json={})).json()["error"]
    assert error["code"] == "not_found"
    assert "does not generate: sample responses from your student (pad-student sample)" in error["message"]
    assert "/v1/score" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/score", ["POST"]),
        ("DELETE", "/v1/models/a", ["GET"]),
        ("POST", "/v1/health/live", ["GET", "HEAD"]),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(
    client: httpx.AsyncClient, method: str, path: str, allowed: list[str]
) -> None:
    reply = await client.request(method, path, json={})
    assert reply.status_code == 405
    assert reply.headers["Allow"] == ", ".join(allowed)
    assert reply.json()["error"]["message"] == f"this route takes {' and '.join(allowed)}"
    assert json.loads(reply.content)["error"]["code"] == "method_not_allowed"
