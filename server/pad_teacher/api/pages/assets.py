"""The files of the pages, the replies that carry them, and what a page may load."""

from functools import cache
from importlib.resources import files

from starlette.responses import Response

import pad_pages

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
OWN = (
    *("page.css", "icon.svg", "console.js", "dom.js", "asking.js", "now.js", "set_form.js", "scored_set.js"),
    *("rankings.js", "reward_sliders.js", "same_call.js"),
)
ASSETS = (*OWN, *pad_pages.FILES)


@cache
def text_of(name: str) -> str:
    """The text of one file of this folder, or of those that both sides share."""
    if name in pad_pages.FILES:
        return pad_pages.text_of(name)
    return (files("pad_teacher.api.pages") / name).read_text("utf-8")


def page(content: str | bytes, kind: str) -> Response:
    """A reply with a page or one of its files."""
    return Response(content, headers=HEADERS, media_type=TYPES.get(kind, kind))
