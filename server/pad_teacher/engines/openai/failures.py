"""From an upstream's error to the refusal that a client gets: no text of the upstream is repeated, nor the key."""

import math
import re
from typing import Any, cast

import openai

from pad_teacher.engines.openai.replies import NotThisWay
from pad_teacher.errors import Refusal

TOO_LONG = "context_length_exceeded"
# vLLM's code is the status, and only its message says that a text is too long.
_TOO_LONG_IN_WORDS = re.compile(r"maximum (?:context|model) length")
NO_MONEY = "insufficient_quota"
MAX_RETRY_SECONDS = 86_400
USUAL_RETRY_SECONDS = 10  # after a 429 that does not say


def refusal_of(error: openai.APIStatusError) -> Refusal:
    """The refusal of a question that the upstream has not answered.

    Raises:
        NotThisWay: if the upstream does not take this form of a request.
    """
    status, code = error.status_code, _code(error)
    said = f"{status} {code}" if code else str(status)
    match status:
        case 429 if code == NO_MONEY:
            return Refusal("quota_exceeded", f"the upstream's account has no quota left ({said})")
        case 429:
            message = f"the upstream is asked too often ({said})"
            return Refusal("overloaded", message, retry_after_s=_retry_after(error))
        case 400 | 413 | 422 if code == TOO_LONG or status == 413 or _says_too_long(error):
            return Refusal("too_long", f"the question exceeds the upstream's context ({said})")
        case 400 | 422:
            raise NotThisWay(f"it refuses the request ({said})")
        case 401 | 403:
            message = f"the upstream refuses the service's key ({said})"
            return Refusal("engine_failed", message, retryable=False)
        case 408 | 504:
            return Refusal("deadline_exceeded", f"the upstream was too slow ({said})")
        case _ if status >= 500:
            return Refusal("engine_failed", f"the upstream failed ({said})", retry_after_s=_retry_after(error, None))
        case _:
            return Refusal("engine_failed", f"the upstream answered with {said}", retryable=False)


def _fields(error: openai.APIStatusError) -> dict[str, Any]:
    body: Any = error.body
    return cast(dict[str, Any], body) if isinstance(body, dict) else {}


def _says_too_long(error: openai.APIStatusError) -> bool:
    """By its message, which is read here and repeated nowhere."""
    message = _fields(error).get("message")
    return isinstance(message, str) and _TOO_LONG_IN_WORDS.search(message) is not None


def _code(error: openai.APIStatusError) -> str | None:
    """The error's code or type, if it is a plain word; anything else may quote what was sent."""
    fields = _fields(error)
    words = (fields.get("code"), fields.get("type"))
    return next((word for word in words if isinstance(word, str) and word.isidentifier() and len(word) < 64), None)


def _retry_after(error: openai.APIStatusError, usual: int | None = USUAL_RETRY_SECONDS) -> int | None:
    try:
        seconds = float(error.response.headers.get("Retry-After", ""))
    except ValueError:
        return usual
    if not math.isfinite(seconds) or seconds < 0:
        return usual
    return min(MAX_RETRY_SECONDS, max(1, math.ceil(seconds)))
