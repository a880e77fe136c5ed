"""Requests for a route that there is not, or by a method that it does not take: which ones there are."""

from collections.abc import Iterable

from starlette.routing import BaseRoute, Route

from pad_teacher.errors import Refusal
from pad_wire.completions import SCORES_ONLY
from pad_wire.near import nearest

# Routes for generation that clients of OpenAI, TGI and Ollama try first.
GENERATING = frozenset(
    {"/v1/chat/completions", "/v1/responses", "/v1/messages", "/generate", "/api/generate", "/api/chat"}
)


class Routes:
    """The routes that a service has, as they are written to users, and the methods that each takes."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._methods: dict[str, set[str]] = {}
        self._routes: dict[str, Route] = {}
        for route in routes:
            if isinstance(route, Route):
                self._methods.setdefault(route.path_format, set()).update(route.methods or ())
                self._routes[route.path_format] = route

    def refusal_of(self, path: str) -> Refusal:
        """The refusal of a path that no route has; it never repeats the path."""
        if path in GENERATING:
            message = (
                f"{SCORES_ONLY}: sample responses from your student (pad-student sample), then send them to"
                " /v1/score; /v1/completions scores too, with echo and logprobs"
            )
            return Refusal("not_found", message)
        meant = nearest(path, self._methods)
        hint = f"did you mean {meant}? " if meant else ""
        return Refusal("not_found", f"no such route; {hint}there are {self._listed()}")

    def allowed(self, path: str) -> list[str]:
        """The methods that the route at ``path`` takes, in order of the alphabet."""
        for known, methods in self._methods.items():
            if self._routes[known].path_regex.match(path):
                return sorted(methods)
        return []

    def _listed(self) -> str:
        posted = [path for path, methods in self._methods.items() if "POST" in methods]
        others = [path for path in self._methods if path not in posted and not path.startswith("/assets/")]
        return f"POST {', '.join(posted)}; GET {', '.join(others)}"


def wrong_method(allowed: Iterable[str]) -> Refusal:
    """The refusal of a method that the route does not take."""
    return Refusal("method_not_allowed", f"this route takes {' and '.join(allowed)}")
