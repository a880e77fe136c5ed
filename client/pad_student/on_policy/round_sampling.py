"""What a round samples: a set for each prompt, and a second one if the teacher's preference is unsettled."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from pad_student.data.prompts import PromptLine
from pad_student.on_policy.background_scoring import BackgroundScorer
from pad_student.preference.config import PADConfig
from pad_student.preference.copies import number_of_texts
from pad_student.preference.set_rewards import entropy_over_texts
from pad_student.sampling.generate import sample_responses
from pad_student.sampling.vllm_sampler import VllmSampler
from pad_student.storage.terminal.status import STATUS
from pad_wire import Response, SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder

Steps = Mapping[int, Sequence[Sequence[PromptLine]]]  # each step's micro-batches
Named = tuple[str, PromptLine]  # a prompt, and the id of a set of its responses
Sample = Callable[[Sequence[Named], float], Sequence[Sequence[Response]]]  # at a temperature
SECOND = "/2"  # ends the id of a prompt's second set


def sampler(config: PADConfig, encoder: ChatEncoder, model: Any, server: VllmSampler | None) -> Sample:
    """Sampling from the student with its present weights, by a server if there is one; keys are ids of sets."""
    with STATUS.phase("loading the weights into the sampling server", stops_at_once=True):
        sample = server.with_weights_of(model) if server else sample_responses
    return lambda keyed, temperature: sample(
        model,
        encoder,
        [line.prompt for _, line in keyed],
        n=config.part_size,
        temperature=temperature,
        max_new_tokens=config.max_response_tokens,
        seed=config.seed,
        keys=[key for key, _ in keyed],
    )


def sample_all(
    config: PADConfig, sample: Sample, items: Sequence[Named], keep: Callable[[list[SampledSet]], None]
) -> None:
    """Sample a set for each of ``items``, batch by batch; ``keep`` takes each batch's."""
    with STATUS.phase("sampling", len(items), stops_at_once=True) as phase:
        for start in range(0, len(items), config.sampling_batch_size):
            batch = items[start : start + config.sampling_batch_size]
            keep(sampled(config, sample, batch))
            phase.update(len(batch))


def unsettled(
    config: PADConfig, items: Iterable[Named], asked: Collection[str], scorer: BackgroundScorer
) -> list[Named]:
    """The second sets to sample: of prompts about whose first one the teacher has hardly a preference.

    Args:
        config: has ``second_set_above``, an entropy.
        items: prompts with the ids of their first sets.
        asked: ids of the sets that are scored or being scored.
        scorer: has or gets the scores, and waits for nothing else.

    Raises:
        TeacherError: if the scoring ended early.
        RewardError: for a number that is missing or cannot be used.
    """
    found: list[Named] = []
    with STATUS.phase("scoring", len(asked), stops_at_once=True) as phase:
        for name, line in items:
            if name not in asked:
                continue
            scored = scorer.score_of(name)
            if scored and _is_unsettled(scored, config):
                found.append((f"{name}{SECOND}", line))
            phase.update()
    return found


def _is_unsettled(scored: ScoredSet, config: PADConfig) -> bool:
    has_a_preference = number_of_texts(scored.responses) > 1
    return has_a_preference and entropy_over_texts(scored, config) > (config.second_set_above or 0.0)


def sampled(config: PADConfig, sample: Sample, batch: Sequence[Named]) -> list[SampledSet]:
    """The sets of one batch; with ``resample_temperature`` those of one text are sampled once more."""
    found = list(sample(batch, config.temperature))
    again = [place for place, responses in enumerate(found) if responses and number_of_texts(responses) == 1]
    if config.resample_temperature and again:
        # Other keys: the same random numbers would give much the same texts.
        keyed = [(f"{batch[place][0]}+", batch[place][1]) for place in again]
        for place, responses in zip(again, sample(keyed, config.resample_temperature), strict=True):
            found[place] = responses or found[place]
    answered = config.method == "adpa"
    return [
        SampledSet(id=name, prompt=line.prompt, responses=list(responses), answer=line.chosen if answered else None)
        for (name, line), responses in zip(batch, found, strict=True)
        if responses
    ]


def with_a_preference(config: PADConfig, sets: Sequence[SampledSet]) -> list[SampledSet]:
    """The sets to be scored; only pad compares the texts of a set."""
    if config.one_text == "keep" or config.method != "pad":
        return list(sets)
    return [each for each in sets if number_of_texts(each.responses) > 1]


def pairs_of_data(batch: Sequence[Named], _: float) -> list[list[Response]]:
    """The data's own responses: the chosen and the rejected one."""
    return [[Response(text=line.chosen or ""), Response(text=line.rejected or "")] for _, line in batch]


def with_set_ids(step: int, micro_batches: Sequence[Sequence[PromptLine]]) -> list[Named]:
    """Prompts with the ids of their sets: a prompt in several steps of a round has other responses in each."""
    return [(f"{line.id}@{step}", line) for lines in micro_batches for line in lines]


# pyright: standard
