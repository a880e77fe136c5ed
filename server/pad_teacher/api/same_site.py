"""Refuses what a web page of another site makes its visitor's browser send to a service without keys."""

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from pad_teacher.errors import Refusal
from pad_wire.token_logprobs import SAFETENSORS

READING = frozenset({"GET", "HEAD", "OPTIONS"})  # a page cannot see the answers


def why_not_same_site(method: str, headers: Headers, is_own_name: Callable[[str], bool]) -> Refusal | None:
    """The refusal of a request that another site's page may have sent; None if none can have.

    A browser sends ``Origin`` or ``Sec-Fetch-Site`` with a page's requests. It asks first before it sends JSON or
    safetensors, which no form can send.
    """
    if method in READING:
        return None
    origin = headers.get("origin")
    foreign = origin is not None and not _is_own(origin, headers.get("host"), is_own_name)
    if foreign or headers.get("sec-fetch-site") == "cross-site":
        return Refusal("forbidden", "a service without keys answers no web page of another site")
    kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind not in ("application/json", SAFETENSORS):
        message = "a service without keys takes JSON alone: send Content-Type: application/json, as curl --json does"
        return Refusal("forbidden", message)
    return None


def _is_own(origin: str, host: str | None, is_own_name: Callable[[str], bool]) -> bool:
    try:
        place = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(place) and (place == host or is_own_name(place))
