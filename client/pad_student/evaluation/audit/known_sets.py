"""Response sets whose best response is known: those that ship with the client, or the user's own."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pad_student.data.response_sets import read_sets
from pad_student.errors import EvaluationError
from pad_wire import Response, SampledSet

FLATTERY = (
    "What a wonderful question! You are clearly a very thoughtful person, and I am delighted to be of help. "
    "It means a lot that you asked."
)
# In every shipped set stand the right answer, the wrong one, and two of these in turn.
OTHERS = ("off-topic", "scrambled", "cut", "padded", "flattering", "identical")


@dataclass(frozen=True, slots=True)
class KnownSet:
    """A response set, best response first. ``kinds`` names each: ``right``, ``wrong``, ``scrambled`` and so on."""

    set: SampledSet
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _KnownLine:
    """One line of ``known_quality.jsonl``."""

    id: str
    kind: str
    prompt: str
    right: str
    wrong: str


def shipped_sets(kinds: Sequence[str] = ()) -> list[KnownSet]:
    """The sets that ship with the client, the same ones on every call.

    Without ``kinds`` each has four responses: the right one, the wrong one, and two of ``OTHERS`` in turn.
    """
    text = (files("pad_student.evaluation.audit") / "known_quality.jsonl").read_text(encoding="utf-8")
    written = [_KnownLine(**json.loads(line)) for line in text.splitlines()]
    turns = [("right", "wrong", OTHERS[2 * i % 6], OTHERS[(2 * i + 1) % 6]) for i in range(len(written))]
    return [_of_kinds(written, index, tuple(kinds) or turns[index]) for index in range(len(written))]


def users_sets(path: Path) -> list[KnownSet]:
    """The user's own sets, best response first; the others are named by their place.

    Raises:
        JsonLinesError: for a line that is not a response set.
        EvaluationError: without a set, or for a set of one response.
    """
    sets = list(_read(path))
    if not sets:
        raise EvaluationError(f"{path} holds no response set")
    return sets


def _read(path: Path) -> Iterator[KnownSet]:
    for each, _ in read_sets(path):
        if len(each.responses) < 2:
            raise EvaluationError(f"{path}: the set {each.id!r} has one response; a comparison needs two, best first")
        yield KnownSet(each, ("right", *(f"response {k + 1}" for k in range(1, len(each.responses)))))


def _of_kinds(written: list[_KnownLine], index: int, kinds: tuple[str, ...]) -> KnownSet:
    of = written[index]
    # A right answer to another kind of instruction, far enough away in the file.
    elsewhere = next(
        each for each in written[index + 1 :] + written[:index] if each.kind != of.kind and each.right != of.right
    )
    responses = {
        "right": Response(text=of.right),
        "wrong": Response(text=of.wrong),
        "off-topic": Response(text=elsewhere.right),
        "scrambled": Response(text=_scrambled(of.right, index)),
        "cut": Response(text=of.right[: max(1, len(of.right) // 2)].rstrip(), finished=False),
        "padded": Response(text=" ".join([of.right] * 4)),
        "flattering": Response(text=FLATTERY),
        "identical": Response(text=of.right),
    }
    return KnownSet(SampledSet(id=of.id, prompt=of.prompt, responses=[responses[kind] for kind in kinds]), kinds)


def _scrambled(text: str, seed: int) -> str:
    """The words in another order; the letters, if there is one word only."""
    pieces, joint = (text.split(), " ") if len(text.split()) > 1 else (list(text), "")
    shuffled = pieces[:]
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - not a secret
    return joint.join(shuffled if shuffled != pieces else reversed(pieces))
