"""Response sets of given lengths, as text and as the token ids that the service makes of it."""

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.model import source_text
from pad_teacher.scoring.questions import question_orders
from pad_wire.chat import ChatEncoder
from pad_wire.letters import default_question, letter_ids

SHORTEST, LONGEST = 16, 2000  # tokens of a text when lengths are mixed


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tokens of a prompt and a response, responses of a set, and sets; ``mixed`` draws lengths log-uniformly."""

    prompt: int
    response: int
    n: int
    sets: int
    mixed: bool
    selection: bool


def make_workload(tokenizer: Any, sizes: Sizes, root: Path) -> Path:
    """Write the workload as JSON, so that all contenders score the same ids."""
    encoder, draw = ChatEncoder.of(tokenizer), random.Random(0)
    source = tokenizer(source_text()[:4_000_000], add_special_tokens=False)["input_ids"]

    def length(wanted: int) -> int:
        return round(math.exp(draw.uniform(math.log(SHORTEST), math.log(LONGEST)))) if sizes.mixed else wanted

    def of_length(wanted: int, count: Callable[[str], int]) -> str:
        return _text(tokenizer, source, draw, wanted, count)

    def make_set() -> dict[str, Any]:
        prompt = of_length(length(sizes.prompt), lambda text: len(encoder.prompt_ids(text)))
        # Finished responses: the end-of-turn token is the last one scored.
        texts = [
            of_length(length(sizes.response), lambda text: len(encoder.response_ids([text], [True])[0]))
            for _ in range(sizes.n)
        ]
        made: dict[str, Any] = {
            "prompt": prompt,
            "responses": texts,
            "prompt_ids": encoder.prompt_ids(prompt),
            "response_ids": encoder.response_ids(texts, [True] * sizes.n),
        }
        return made | (_questions(encoder, prompt, texts) if sizes.selection else {})

    written = json.dumps([make_set() for _ in range(sizes.sets)]).encode()
    file = root / f"workload-{hashlib.sha256(written).hexdigest()[:12]}.json"
    file.write_bytes(written)
    return file


def _text(
    tokenizer: Any, source: Sequence[int], draw: random.Random, wanted: int, count: Callable[[str], int]
) -> str:
    """A piece of the source with ``wanted`` tokens by ``count``: cut, tokenise again, adjust."""
    for _ in range(1000):
        start, tokens = draw.randrange(len(source) - 2 * wanted), wanted
        for _ in range(4):
            text = tokenizer.decode(source[start : start + tokens], clean_up_tokenization_spaces=False)
            got = count(text)
            if got == wanted and "\N{REPLACEMENT CHARACTER}" not in text:
                return text
            tokens = max(tokens + wanted - got, 1)
    raise ValueError(f"no text of {wanted} tokens in the source")


def _questions(encoder: ChatEncoder, prompt: str, texts: list[str]) -> dict[str, Any]:
    """Multiple choice about one set: each pair in one order, and all responses in each rotation."""
    form = default_question(encoder)
    letters = letter_ids(encoder, form)

    def ask(order: Sequence[int]) -> dict[str, list[int]]:
        ids = encoder.prefilled_ids(form.messages(prompt, [texts[i] for i in order]), form.answer)
        return {"ids": ids, "labels": letters[: len(order)]}

    n = len(texts)
    return {
        "pairwise": [ask(order) for order in question_orders(n, "pairwise", "single")],
        "single": [ask(tuple(range(n)))],
        "cyclic": [ask(order) for order in question_orders(n, "listwise", "cyclic")],
    }
