"""Response sets in the shapes that people have: dicts and pairs, texts and messages, ids of any scalar or none."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import from_json

from pad_wire.sets import Prompt, Response, SampledSet, ScoredSet
from pad_wire.validation import InvalidBody, validated

ANSWERS = ("responses", "completions", "candidates")
ONE_ANSWER = ("response", "completion", "answer", "output")
TEXTS = ("text", "content", "response", "completion")
SHAPE = "`prompt` with `responses`, or with `chosen` and `rejected`"

GivenSet = SampledSet | ScoredSet | Mapping[str, Any] | Sequence[Any]
"""A set, a dict with prompt and responses, or a pair of both."""


class NoSet(ValueError):
    """A value that is no response set; the message says what was expected."""


def sets_of(given: Iterable[GivenSet]) -> Iterator[SampledSet]:
    """The sets of any shape, in order; one without an id gets its place, as over HTTP.

    Raises:
        NoSet: naming the place.
    """
    for place, each in enumerate(given):
        try:
            yield set_of(each, str(place))
        except NoSet as error:
            raise NoSet(f"set {place}: {error}") from None


def set_of(given: GivenSet, default_id: str, prompt: Any = None) -> SampledSet:
    """One set.

    Args:
        given: a set, a dict or a pair.
        default_id: the id of one that has none.
        prompt: in the place of its own.

    Raises:
        NoSet: saying what was expected.
    """
    if isinstance(given, SampledSet):
        return given
    if isinstance(given, BaseModel):
        given = given.model_dump()
    if isinstance(given, Mapping):
        row = cast(Mapping[str, Any], given)
        asked = row.get("prompt") if prompt is None else prompt
        made = {"id": id_of(row.get("id"), default_id), "prompt": _prompt(asked), "responses": responses_of(row)}
    elif isinstance(given, list | tuple) and len(cast(Sequence[Any], given)) == 2:
        asked, answers = cast(Sequence[Any], given)
        made = {"id": default_id, "prompt": _prompt(asked), "responses": responses_of({"responses": answers})}
    else:
        raise NoSet(f"expected {SHAPE}, or a pair of prompt and responses")
    try:
        return validated(SampledSet, made)
    except InvalidBody as error:
        raise NoSet(f"{error.detail.where or 'a set'}: {error.detail.message}") from None


def id_of(value: Any, default: str) -> str:
    """An id as text; a number is one, None is not."""
    if value is None or value == "":
        return default
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise NoSet("id: expected text or a number")


def responses_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Text, ``finished`` and ``ids`` of each response: those of ``responses``, or ``chosen`` and then ``rejected``.

    Raises:
        NoSet: there are none, or one is no text.
    """
    for name in ANSWERS:
        if row.get(name) is not None:
            return [_response(each, f"{name}[{k}]") for k, each in enumerate(_list_of(row[name], name))]
    if row.get("chosen") is not None and row.get("rejected") is not None:
        return [_response(_answer(row[name], name), name) for name in ("chosen", "rejected")]
    for name in ONE_ANSWER:
        if row.get(name) is not None:
            return [_response(row[name], name)]
    raise NoSet(f"expected {SHAPE}, found {', '.join(map(str, row)) or 'nothing'}")


def _listed(value: Any) -> Sequence[Any] | None:
    """A list or a tuple as it is, and an array as a list; None for all else, bytes and sets among them."""
    if isinstance(value, list | tuple):
        return cast(Sequence[Any], value)
    return _listed(value.tolist()) if hasattr(value, "shape") and hasattr(value, "tolist") else None


def _prompt(value: Any) -> Prompt:
    turns = _listed(value)
    if turns is None:
        return value
    return cast(Prompt, [each.model_dump() if isinstance(each, BaseModel) else each for each in turns])


def _list_of(value: Any, name: str) -> Sequence[Any]:
    if isinstance(value, str) and value.lstrip().startswith("["):  # a cell of a CSV file
        try:
            value = from_json(value)
        except ValueError:
            raise NoSet(f"{name}: a text that begins with [ has to be a JSON list") from None
    answers = _listed(value)
    if answers is None:
        raise NoSet(f"{name}: expected a list of texts, or of objects with text")
    return answers


def _answer(value: Any, name: str) -> Any:
    """The last message of a conversation, which is the answer; a text is one itself."""
    turns = _listed(value)
    if turns is None:
        return value
    if not turns:
        raise NoSet(f"{name}: an empty conversation")
    return turns[-1]


def _response(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, Response):
        return {"text": value.text, "finished": value.finished, "ids": value.ids}
    if isinstance(value, Mapping):
        fields = cast(Mapping[str, Any], value)
        text = next((fields[name] for name in TEXTS if isinstance(fields.get(name), str)), None)
        if text is not None:
            known = {"finished": fields.get("finished"), "ids": _ids(fields.get("ids"))}
            return {"text": text, **{name: given for name, given in known.items() if given is not None}}
    raise NoSet(f"{where}: expected text, or an object with text")


def _ids(value: Any) -> list[int] | None:
    """Token ids; None for what other programs call so."""
    listed = _listed(value) or ()
    return list(listed) if listed and all(type(each) is int and each >= 0 for each in listed) else None
