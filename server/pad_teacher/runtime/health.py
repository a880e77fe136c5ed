"""``pad-teacher health``: asks a running service whether it is ready, for containers and supervisors.

It needs no key and none of the server's packages. The service is on this machine, so its certificate is not checked
and no proxy is asked. A service elsewhere (``--url``) may be asked through one.
"""

import json
import os
import ssl
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, build_opener

from pad_settings.values import from_file
from pad_teacher.errors import TeacherError
from pad_teacher.runtime.addresses import authority, is_loopback

DEFAULT_PORT = "8010"
ROUTE = "/v1/health/ready"
SECONDS = 4.0  # shorter than the limit of the images' health check
MOST_BYTES = 2**16  # of a reply; a service's has a hundred
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- where one that listens on all is


class NotReady(TeacherError):
    """The service does not answer, or says that it is not ready."""


class _NoRedirect(HTTPRedirectHandler):
    """Leaves a redirection as the reply that it is: another address may be another service."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None, so that it is an HTTPError."""


def default_urls() -> list[str]:
    """Where the service of this machine's variables, and of the file that they name, listens.

    HTTPS comes first if they name a certificate.

    Raises:
        NotReady: the file cannot be read.
    """
    given = _settings()
    host = str(given.get("host", "")).removeprefix("[").removesuffix("]")
    port = str(given.get("port", DEFAULT_PORT))
    port = port if port.isdigit() else DEFAULT_PORT  # Kubernetes' service links
    schemes = ("https", "http") if given.get("tls_certificate") else ("http", "https")
    return [f"{scheme}://{authority(EVERYWHERE.get(host, host), port)}" for scheme in schemes]


def ask_health(url: str | None = None, seconds: float = SECONDS) -> str:
    """The state of the service at ``url``; without one, of the first that answers at ``default_urls``.

    Raises:
        NotReady: if none answers, or it is not ready.
    """
    problem = ""
    for each in default_urls() if url is None else [url]:
        try:
            return _ask(each, seconds, of_this_machine=url is None)
        except (OSError, ValueError, HTTPException) as error:
            reason = " ".join(str(getattr(error, "reason", error)).split())
            problem = problem or f"no service answers at {each}: {reason}"
    raise NotReady(problem)


def _ask(url: str, seconds: float, *, of_this_machine: bool) -> str:
    if not url.startswith(("http://", "https://")):
        raise NotReady(f"--url {url}: give http://… or https://…")
    opener = _opener(direct=of_this_machine or is_loopback(urlsplit(url).hostname or ""))
    try:
        with opener.open(url.rstrip("/") + ROUTE, timeout=seconds) as reply:
            status = _said(reply).get("status")
    except HTTPError as error:
        said = _said(error)
        why = " ".join(f"{said.get('status', error.code)}: {said.get('reason', error.reason)}".split())
        raise NotReady(f"{url}: {why}") from None
    except URLError as error:
        raise ConnectionError(error.reason) from None
    if status != "ready":
        raise NotReady(f"{url} answers, but not as a teacher does; give the service's own address")
    return status


def _opener(*, direct: bool) -> OpenerDirector:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    proxies = [ProxyHandler({})] if direct else []
    return build_opener(HTTPSHandler(context=context), _NoRedirect, *proxies)


def _said(reply: Any) -> dict[str, Any]:
    """The JSON object in a reply; an empty one if it is something else, as a proxy's page."""
    try:
        said: Any = json.loads(reply.read(MOST_BYTES))
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], said) if isinstance(said, dict) else {}


def _settings() -> dict[str, Any]:
    variables = {name: os.environ.get(f"PAD_TEACHER_{name.upper()}") for name in ("host", "port", "tls_certificate")}
    path = os.environ.get("PAD_TEACHER_CONFIG")
    try:
        file: Any = from_file(Path(path)) if path else {}
    except (OSError, ValueError) as error:
        raise NotReady(f"PAD_TEACHER_CONFIG: {error}") from None
    named = cast(dict[Any, Any], file) if isinstance(file, dict) else {}
    return {str(name).replace("-", "_"): value for name, value in named.items()} | {
        name: value for name, value in variables.items() if value is not None
    }
