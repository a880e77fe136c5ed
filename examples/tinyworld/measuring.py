"""How well a teacher and a student behave on prompts that neither has seen."""

from itertools import combinations

import torch
import world
from learning import log_likelihoods, padded
from transformers import PreTrainedModel

from pad_teacher.scoring.questions import Choice, combine, question_orders
from pad_wire.chat import ChatEncoder
from pad_wire.letters import letter_ids
from pad_wire.question import QuestionForm

Samples = list[list[tuple[str, bool]]]


@torch.inference_mode()
def mean_log_likelihoods(
    model: PreTrainedModel, encoder: ChatEncoder, prompts: list[str], samples: Samples
) -> list[list[float]]:
    """Each response's log-likelihood divided by its tokens, as the service scores it."""
    found = []
    for prompt, responses in zip(prompts, samples, strict=True):
        ids = encoder.response_ids([text for text, _ in responses], [done for _, done in responses])
        sums, counts = log_likelihoods(model, [encoder.prompt_ids(prompt)] * len(ids), ids)
        found.append((sums / counts).tolist())
    return found


@torch.inference_mode()
def choices(model: PreTrainedModel, encoder: ChatEncoder, prompts: list[str], samples: Samples) -> list[Choice]:
    """Listwise multiple choice over all rotations."""
    made = []
    form = QuestionForm()
    letters = letter_ids(encoder, form)
    for prompt, responses in zip(prompts, samples, strict=True):
        n = len(responses)
        orders = question_orders(n, "listwise", "cyclic")
        shown = [[responses[i][0] for i in order] for order in orders]
        rows = [encoder.prefilled_ids(form.messages(prompt, options), form.answer) for options in shown]
        hidden = model.model(input_ids=padded(rows), use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
        made.append(combine(n, orders, model.lm_head(last).log_softmax(1)[:, letters[:n]].tolist()))
    return made


def pairs_ordered_rightly(grades: list[list[float]], scores: list[list[float]]) -> dict[str, float]:
    """The share of unequally graded pairs whose better response scores higher: overall and by kind."""
    by_kind: dict[str, list[bool]] = {kind: [] for kind in world.KINDS}
    for i, (graded, scored) in enumerate(zip(grades, scores, strict=True)):
        by_kind[world.KINDS[i % len(world.KINDS)]] += [
            (graded[a] > graded[b]) == (scored[a] > scored[b])
            for a, b in combinations(range(len(graded)), 2)
            if graded[a] != graded[b]
        ]
    every = [right for rights in by_kind.values() for right in rights]
    return {"all": _mean(every)} | {kind: _mean(rights) for kind, rights in by_kind.items()}


def mean_grades(grades: list[list[float]]) -> dict[str, float]:
    """The mean grade, overall and by kind; prompts take the kinds in turn."""
    count = len(world.KINDS)
    return {"all": _mean([g for row in grades for g in row])} | {
        kind: _mean([g for row in grades[k::count] for g in row]) for k, kind in enumerate(world.KINDS)
    }


def _mean(values: list) -> float:
    return round(sum(values) / max(1, len(values)), 4)
