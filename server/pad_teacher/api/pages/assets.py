"""The files of the pages, the replies that carry them, and what a page may load."""

from functools import cache
from importlib.resources import files

from starlette.responses import Response

# Nothing but this service's own files: no other host, no script or style within a page, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
TYPES = {"css": "text/css", "js": "text/javascript", "html": "text/html", "svg": "image/svg+xml"}
ASSETS = ("page.css", "icon.svg", "console.js", "rankings.js")


@cache
def text_of(name: str) -> str:
    """The text of one file of this folder."""
    return (files("pad_teacher.api.pages") / name).read_text("utf-8")


def page(content: str | bytes, kind: str) -> Response:
    """A reply with a page or one of its files."""
    return Response(content, headers=HEADERS, media_type=TYPES.get(kind, kind))
