"""The routes of the pages: the console at ``/``, and the API's ``/docs`` and ``/openapi.json``."""

import json
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from fastapi import APIRouter
from jinja2 import Environment, StrictUndefined
from starlette.responses import Response

from pad_teacher.api.pages.assets import ASSETS, page, text_of
from pad_teacher.api.pages.schema_words import default_of, kind_of


def page_routes(openapi: Callable[[], dict[str, Any]], *, needs_key: bool) -> APIRouter:
    """The routes of the pages; ``openapi`` describes the service."""
    router = APIRouter(include_in_schema=False)

    # Told beforehand, the page need not ask without a key, which browsers report as an error.
    whole = text_of("console.html").replace('"none"', '"needed"' if needs_key else '"none"', 1)

    @cache
    def described() -> bytes:
        return json.dumps(openapi()).encode()

    @cache
    def shown() -> bytes:
        return docs_page(openapi()).encode()

    async def console() -> Response:
        return page(whole, "html")

    async def docs() -> Response:
        return page(shown(), "html")

    async def document() -> Response:
        return page(described(), "application/json")

    async def asset(name: str) -> Response:
        return page(text_of(name), name.rpartition(".")[2])

    router.add_api_route("/", console)
    router.add_api_route("/docs", docs)
    router.add_api_route("/openapi.json", document)
    for name in ASSETS:
        router.add_api_route(f"/assets/{name}", partial(asset, name))
    return router


def docs_page(api: dict[str, Any]) -> str:
    """The description as one HTML page without scripts."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    words: dict[str, Any] = {"kind": kind_of, "default_of": default_of, "plain": _plain, "json": _json}
    words["filled"] = _filled
    environment.filters.update(words)
    return environment.from_string(text_of("docs.html")).render(
        api=api,
        routes=[
            (method.upper(), path, route)
            for path, methods in api["paths"].items()
            for method, route in methods.items()
        ],
        models=api["components"]["schemas"],
    )


def _filled(path: str, parameters: list[dict[str, Any]]) -> str:
    """A path with its parameters' examples in their places."""
    examples = {each["name"]: each["schema"]["examples"][0] for each in parameters if each["in"] == "path"}
    return path.format(**examples)


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "").split())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# pyright: standard
