"""Which rows of a dataset can be trained on, and scored sets in the parts of a fixed decomposition."""

import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast, overload

from pad_student.data.lengths import prompt_fits, set_fits
from pad_student.data.prompts import PromptLine, tried
from pad_student.errors import DatasetError
from pad_student.preference.config import PADConfig
from pad_student.preference.copies import number_of_texts
from pad_student.sampling.generate import context_of
from pad_student.training.batches import TrainingRow
from pad_student.training.token_batches import check_learnable
from pad_wire import Response, ScoredSet
from pad_wire.chat import ChatEncoder

logger = logging.getLogger(__name__)


class SetParts(Sequence[ScoredSet]):
    """Parts of sets in the order of parts: each set's responses are divided among as many smaller sets.

    Args:
        sets: read one at a time.
        parts: of each set.
        places: ``part * len(sets) + set``, of the parts that are used; ascending.
    """

    def __init__(self, sets: Sequence[ScoredSet], parts: int, places: Iterable[int]) -> None:
        self._sets = sets
        self._parts = parts
        self._places = array("q", places)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> ScoredSet: ...
    @overload
    def __getitem__(self, index: slice) -> list[ScoredSet]: ...
    def __getitem__(self, index: int | slice) -> ScoredSet | list[ScoredSet]:
        """One part, or several."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        part, place = divmod(self._places[index], len(self._sets))
        each = self._sets[place]
        if self._parts == 1:
            return each
        return each.model_copy(update={"id": f"{each.id}/{part}", "responses": each.responses[part :: self._parts]})


def usable_rows(
    rows: Sequence[TrainingRow],
    model: Any,
    encoder: ChatEncoder,
    config: PADConfig,
    *,
    scores_more: bool,
    held_out: bool = False,
) -> Sequence[TrainingRow]:
    """The rows that can be trained or evaluated on, scored sets decomposed; the log reports how many are left out.

    A prompt is left out if it has no room for a response in the student's context; a scored set also if the teacher
    truncated one of its responses, or if it holds one text.

    Args:
        rows: all prompts, or all scored sets, of which none is kept in memory.
        model: the student.
        encoder: the student's.
        config: the run's ``n``, ``parts``, ``one_text`` and ``max_response_tokens``.
        scores_more: whether there is a teacher, which prompts need; for held-out ones a rule does too.
        held_out: whether the rows are those of the evaluation, whose prompts are answered in every method.

    Raises:
        DatasetError: for a mixture of prompts and scored sets, for prompts without a teacher, for a set without what
            the method needs, and if no row is left.
        PromptsError: for a prompt that the student's template refuses.
    """
    say = logger.warning if config.process_index == 0 else logger.debug
    name = "eval_dataset" if held_out else "train_dataset"
    kinds = {type(row) for row in rows} if isinstance(rows, list) else {ScoredSet}
    if len(kinds) > 1:
        raise DatasetError(f"{name} mixes prompts with scored sets; give one kind of rows")
    if PromptLine in kinds and not scores_more:
        judge = "a teacher or a grader" if held_out else "a teacher"
        raise DatasetError(f"{name} has prompts without scores: give the trainer {judge}, or score them first")
    counts = Counter[str]()
    samples = PromptLine in kinds and (held_out or config.method != "dckd")
    prompt = partial(_prompt, samples)
    use, parts = (prompt, 1) if PromptLine in kinds else (partial(_parts_of_set, counts), config.parts)
    found = tried(name, rows, lambda row: use(row, encoder, config, context_of(model)), config, say)
    one_text = counts["one text"]
    places = sorted(part * len(rows) + place for place, parts_used in found for part in parts_used)
    if one_text:
        say("%s: %d of %d sets hold one text and are left out", name, one_text, len(found) * parts)
    if left_out := len(found) * parts - len(places) - one_text:
        say("%s: %d rows exceed the student's or the teacher's context and are left out", name, left_out)
    if one_text and one_text == len(found) * parts:
        raise DatasetError(f"each set of {name} holds one text, so there is no preference in it")
    if not places:
        room = _room(model, config) if samples else ""
        raise DatasetError(f"{name} has no row that fits the student's context{room}")
    if PromptLine in kinds:
        return [rows[place] for place in places]
    return SetParts(cast("Sequence[ScoredSet]", rows), parts, places)


def _room(model: Any, config: PADConfig) -> str:
    """What a sampled answer leaves of the context, and the setting that decides it."""
    return f" of {context_of(model)} tokens with an answer of {config.max_response_tokens}; lower max_response_tokens"


def _prompt(samples: bool, prompt: Any, encoder: ChatEncoder, config: PADConfig, context: float) -> range:
    """The parts of a prompt that are used: it has one.

    It needs room for a response if one is sampled, and for the data's own that are learnt from.
    """
    texts = (prompt.chosen, prompt.rejected) if config.method != "pad" else ()
    own = [Response(text=text) for text in texts if text is not None]
    if own and not set_fits(encoder, prompt.prompt, own, context):
        return range(0)
    return range(not samples or prompt_fits(encoder, prompt.prompt, context - config.max_response_tokens))


def _parts_of_set(
    counts: Counter[str], scored: Any, encoder: ChatEncoder, config: PADConfig, context: float
) -> Sequence[int]:
    """The parts of a set that fit the student, hold two texts, and whose numbers cover the whole texts.

    ``counts`` grows by the parts that hold ``one text``, which only pad leaves out.
    """
    n, parts, responses = config.part_size * config.parts, config.parts, scored.responses
    if scored.answer is not None and not set_fits(encoder, scored.prompt, [Response(text=scored.answer)], context):
        return []
    if len(responses) != n:
        raise DatasetError(f"set {scored.id!r} has {len(responses)} responses, and n is {n}")
    if config.method != "pad":
        check_learnable(scored, reference=config.method == "adpa")
    rest = range(parts)
    if config.one_text == "skip" and config.method == "pad":
        rest = [part for part in rest if number_of_texts(responses[part::parts]) > 1]
        counts["one text"] += parts - len(rest)
    whole = [part for part in rest if not any(each.truncated for each in responses[part::parts])]
    if set_fits(encoder, scored.prompt, responses, context):
        return whole
    return [part for part in whole if set_fits(encoder, scored.prompt, responses[part::parts], context)]


# pyright: standard
