"""Samples responses from the student: ancestral sampling of one batch of prompts, reproducible from a seed."""

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria

from pad_student.data.drawn_ids import spell, spelled
from pad_student.data.lengths import prompt_fits
from pad_student.errors import SamplingError
from pad_student.model.logprobs import use_defined_attention
from pad_student.storage.terminal.status import STATUS, TICK
from pad_torch.checkpoint import load_model
from pad_torch.context_length import context_length
from pad_torch.declared_ends import declared_ends, saved_ends
from pad_torch.findings import FindingName, refuse_unless_allowed
from pad_torch.modes import evaluating
from pad_torch.own_tokenizer import load_tokenizer
from pad_wire import Prompt, Response
from pad_wire.chat import ChatEncoder, TemplateOptions
from pad_wire.model_names import is_missing_directory
from pad_wire.rendering.witness import findings

logger = logging.getLogger(__name__)

EMPTY_RETRIES = 4
# A student may always be odd in these ways: its own log-likelihoods are still those of the text that it trains on.
ALLOWED: tuple[FindingName, ...] = ("unused-weights", "tokenizer-round-trip", "template-end")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BYTES = 3  # of that character in UTF-8: each may be a token


@dataclass(frozen=True, slots=True)
class Student:
    """A causal language model on its device, and the encoder that writes prompts for it."""

    model: Any
    encoder: ChatEncoder


def load_student(
    name: str,
    dtype: str = "auto",
    template: TemplateOptions | None = None,
    allow: Collection[FindingName] = (),
) -> Student:
    """Load a model (directory or hub id), on the GPU if there is one; dtype ``auto`` is the one it was saved in.

    ``allow`` names findings about its files that are no reason to refuse it.

    Raises:
        OSError: there is no such model, or a file of it cannot be read.
        SamplingError: there is no such directory, weights or ids are not those of its files, or the tokenizer has ids
            that the model lacks.
        TemplateError: the tokenizer has no usable chat template.
    """
    encoder = load_encoder(name, template, allow)
    try:
        model = load_model(name, dtype=dtype, allow={*ALLOWED, *allow})
    except ValueError as error:
        raise SamplingError(str(error)) from error
    check_vocabulary(name, encoder, model)
    use_defined_attention(model)
    return Student(model.to("cuda" if torch.cuda.is_available() else "cpu"), encoder)


def load_encoder(
    name: str, template: TemplateOptions | None = None, allow: Collection[FindingName] = ()
) -> ChatEncoder:
    """The encoder of a model (directory or hub id), without the model's weights.

    ``allow`` names findings about its files that are no reason to refuse it.

    Raises:
        OSError: there is no such model.
        SamplingError: there is no such directory, or the ids are not those of its files.
        TemplateError: the tokenizer has no usable chat template.
    """
    if is_missing_directory(name):
        raise SamplingError(f"{name}: no such model directory")
    try:
        tokenizer = load_tokenizer(name, allow={*ALLOWED, *allow})
    except ValueError as error:
        raise SamplingError(str(error)) from error
    encoder = ChatEncoder.of(tokenizer, template, saved_ends(name))
    check_template(name, encoder, allow)
    if encoder.place.note:
        logger.warning("%s: %s", name, encoder.place.note)
    return encoder


def check_template(name: str, encoder: ChatEncoder, allow: Collection[FindingName] = ()) -> None:
    """Refuse a chat template that loses something of hard conversations.

    Raises:
        SamplingError: for a finding that is not among ``allow``.
    """
    try:
        for finding, sentence in findings(encoder.template, encoder.place):
            refuse_unless_allowed(finding, f"{name}: {sentence}", {*ALLOWED, *allow})
    except ValueError as error:
        raise SamplingError(str(error)) from error


def check_vocabulary(name: str, encoder: ChatEncoder, model: Any) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for.

    Raises:
        SamplingError: if the largest id is past the embeddings.
    """
    tokenizer: Any = encoder.tokenizer
    # Not the weight's shape, which is [0] on a process that holds a shard of it.
    largest, rows = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if largest >= rows:
        raise SamplingError(
            f"{name}: the tokenizer has an id of {largest} and the model only {rows} tokens; call"
            f" model.resize_token_embeddings({largest + 1}) and save the model again"
        )


def fits(model: Any, encoder: ChatEncoder, prompt: Prompt, max_new_tokens: int) -> bool:
    """Whether the rendered prompt and ``max_new_tokens`` more tokens fit the model's context."""
    return prompt_fits(encoder, prompt, context_of(model) - max_new_tokens)


def sample_responses(
    model: Any,
    encoder: ChatEncoder,
    prompts: Sequence[Prompt],
    *,
    n: int,
    temperature: float,
    max_new_tokens: int,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int,
    keys: Sequence[str] = (),
) -> list[list[Response]]:
    """Sample ``n`` responses to each of a batch of prompts, in order.

    The same seed, keys, batch and device give the same responses. The global random state and the model's modes and
    generation settings stay as they were; of these settings only the end tokens are used. Temperature 0 takes the
    most likely token, and then ``n`` must be 1. A batch too large for the GPU is halved.

    Returns:
        ``n`` responses to each prompt. An empty list if prompt and ``max_new_tokens`` exceed the context, or if the
        model was cut before any text in every try: no teacher can score an unfinished empty response.

    Raises:
        SamplingError: for ``n`` > 1 at temperature 0, and if not even one prompt fits the GPU's memory.
        TemplateError: the chat template refuses a prompt.
    """
    if temperature == 0 and n > 1:
        raise SamplingError("temperature 0 has one response only; ask for n = 1 or a higher temperature")
    ends = end_tokens(model, encoder)
    config = GenerationConfig(
        do_sample=temperature > 0,
        **({"temperature": temperature, "top_p": top_p, "top_k": top_k} if temperature > 0 else {}),
        num_return_sequences=n,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=encoder.end_of_turn,
        use_cache=True,
    )
    prompt_ids = [encoder.prompt_ids(prompt) for prompt in prompts]
    todo = [i for i, ids in enumerate(prompt_ids) if len(ids) + max_new_tokens <= context_of(model)]

    def generate(todo: list[int], retry: int) -> list[list[list[int]]]:
        rows = _generate(model, [prompt_ids[i] for i in todo], stable_seed(seed, retry, *keys))
        return [rows[k * n : (k + 1) * n] for k in range(len(todo))]

    with _generation_settings(model, config):
        found = responses_with_text(encoder, ends, todo, EMPTY_RETRIES if temperature > 0 else 1, generate)
    return [found.get(i, []) for i in range(len(prompts))]


def responses_with_text(
    encoder: ChatEncoder,
    ends: set[int],
    todo: list[int],
    tries: int,
    generate: Callable[[list[int], int], list[list[list[int]]]],
) -> dict[int, list[Response]]:
    """Responses to the prompts with numbers ``todo``; a prompt with an empty unfinished response is tried again.

    Args:
        encoder: the student's.
        ends: tokens that finish a response.
        todo: numbers of prompts.
        tries: greatest number of tries.
        generate: from numbers of prompts and the number of the try to the new token ids of each response.
    """
    found: dict[int, list[Response]] = {}
    for retry in range(tries):
        if not todo:
            break
        for i, rows in zip(todo, generate(todo, retry), strict=True):
            given = _responses(encoder, ends, rows)
            if all(response.text or response.finished for response in given):
                found[i] = given
        todo = [i for i in todo if i not in found]
    return found


def _generate(model: Any, prompt_ids: list[list[int]], seed: int) -> list[list[int]]:
    """New token ids, n rows for each prompt in order; a batch that exceeds the GPU's memory is halved."""
    try:
        return _generate_batch(model, prompt_ids, seed)
    except torch.OutOfMemoryError:
        if len(prompt_ids) == 1:
            raise SamplingError("one prompt's responses exceed the GPU's memory; lower n or max_new_tokens") from None
    torch.cuda.empty_cache()
    half = len(prompt_ids) // 2
    return _generate(model, prompt_ids[:half], seed) + _generate(model, prompt_ids[half:], stable_seed(seed, half))


def _generate_batch(model: Any, prompt_ids: list[list[int]], seed: int) -> list[list[int]]:
    width = max(map(len, prompt_ids))
    # Padding is on the left, so that every row's first new token follows its prompt; the mask hides its ids.
    ids = torch.tensor([[0] * (width - len(row)) + row for row in prompt_ids], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompt_ids], device=model.device)
    on_gpu = model.device.type == "cuda"
    with torch.random.fork_rng(devices=[model.device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(model.device):
                torch.cuda.manual_seed(seed)
        # Every process generates alone: a sharded student was gathered before.
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            synced_gpus=False,
            stopping_criteria=[_Counted(width, model.generation_config)],
        )
    return output[:, width:].tolist()


class _Counted(StoppingCriteria):
    """Stops nothing: counts the prompts of a batch whose responses have ended, for the status line."""

    def __init__(self, width: int, config: GenerationConfig) -> None:
        ends: Any = config.eos_token_id
        self._width, self._n, self._ends = width, config.num_return_sequences or 1, torch.tensor(ends)
        self._counted_at = 0.0

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        phase, now = STATUS.current, time.monotonic()
        if phase and STATUS.shown and now - self._counted_at > TICK:
            self._counted_at = now
            ended = torch.isin(input_ids[:, self._width :], self._ends.to(input_ids.device)).any(1)
            phase.partly = int(ended.view(-1, self._n).all(1).sum())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _responses(encoder: ChatEncoder, ends: set[int], rows: Sequence[list[int]]) -> list[Response]:
    """The responses before the first end tokens, whose text others may spell with other ids; the rest is padding."""
    given: list[Response] = []
    for row in rows:
        length = next((place for place, token in enumerate(row) if token in ends), len(row))
        finished = length < len(row)
        text = spelled(encoder, row[:length])
        text = text if finished else _whole_characters(encoder, row, text)
        given.append(_with_ids(encoder, Response(text=text, finished=finished), row[: length + finished]))
    own = encoder.response_ids([each.text for each in given], [each.finished for each in given])
    return [
        each.model_copy(update={"ids": None}) if each.ids == ids else each
        for each, ids in zip(given, own, strict=True)
    ]


def _with_ids(encoder: ChatEncoder, response: Response, row: list[int]) -> Response:
    """The response with the ids that spell it; those of a cut character are left out."""
    most = 0 if response.finished else BYTES
    shorter = (row[: len(row) - less] for less in range(min(most, len(row) - 1) + 1))
    return response.model_copy(update={"ids": next((i for i in shorter if spell(encoder, i, response)), None)})


def _whole_characters(encoder: ChatEncoder, row: list[int], text: str) -> str:
    """``text`` without a character of which a cut response has only the first bytes: nobody wrote it."""
    if not text.endswith(REPLACEMENT):
        return text
    (own,) = encoder.response_ids([text], [False])  # a model may write this very character
    if row[-BYTES:] == own[-BYTES:]:
        return text
    # A decoder may spoil the whole run of bytes in which the cut lies, and a token may hold more than the cut bytes.
    shorter = [text, *(spelled(encoder, row[:-less]) for less in range(1, BYTES + 1))]
    return max((each.rstrip(REPLACEMENT) for each in shorter), key=len)


def end_tokens(model: Any, encoder: ChatEncoder) -> set[int]:
    """Tokens that finish a response: the template's end of turn, and those that the model declares."""
    return {encoder.end_of_turn, *declared_ends(model.generation_config)}


def context_of(model: Any) -> float:
    """Tokens that fit the model's context, prompt and response together; infinity if it declares none."""
    return context_length(model.config) or float("inf")


def stable_seed(*parts: object) -> int:
    """A 56-bit seed that depends on ``parts`` alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


@contextmanager
def _generation_settings(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Evaluation mode with ``config`` as the only generation settings: unset ones would come from the model's own."""
    owners = [module for module in model.modules() if "generation_config" in vars(module)]
    configs = [(module, module.generation_config) for module in owners]
    try:
        for module in owners:
            module.generation_config = config
        with evaluating(model):
            yield
    finally:
        for module, own in configs:
            module.generation_config = own


# pyright: standard
