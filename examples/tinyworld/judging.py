"""Multiple-choice questions as training examples: the right letters, and the worth of each word of an option."""

import random
from dataclasses import dataclass, field

import torch
import world
from grade import parse
from learning import padded
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM

from pad_wire.chat import ChatEncoder
from pad_wire.letters import letter_ids
from pad_wire.question import QuestionForm

GRADE_LAYER = 4  # of six: the layers after it only compare
LETTER_TEMPERATURE = 0.15  # softens the grades into the probabilities of the letters


@dataclass
class Questions:
    """A batch of questions with all their training targets. A place is a row and a column of the batch."""

    rows: list[list[int]] = field(default_factory=list)
    letters: list[Tensor] = field(default_factory=list)  # one distribution over the vocabulary a question
    ends: list[tuple[int, int]] = field(default_factory=list)  # the quotation mark that closes an option ...
    grades: list[float] = field(default_factory=list)  # ... and its grade
    words: list[tuple[int, int]] = field(default_factory=list)  # each word of an option ...
    faultless: list[float] = field(default_factory=list)  # ... and whether all is right up to it
    perfect: list[tuple[int, int]] = field(default_factory=list)  # places whose next token is of a best answer


class Asker:
    """Writes questions in the teacher's tokens."""

    def __init__(self, encoder: ChatEncoder, vocabulary: int) -> None:
        self.encoder, self.vocabulary = encoder, vocabulary
        self.form = QuestionForm()
        self.break_id = encoder.response_ids(["\n\n"], [False])[0][0]
        self.letter_ids = letter_ids(encoder, self.form)

    def add(self, questions: Questions, prompt: str, options: list[str]) -> None:
        """Ask about ``options``."""
        row, graded = len(questions.rows), world.graded(prompt, options)
        ids = self.encoder.prefilled_ids(self.form.messages(prompt, options), self.form.answer)
        questions.rows.append(ids)
        wanted = torch.zeros(self.vocabulary)
        wanted[self.letter_ids[: len(options)]] = (torch.tensor(graded) / LETTER_TEMPERATURE).softmax(0)
        questions.letters.append(wanted)
        # Blank lines stand after the request, after the line that announces the options, and after each option.
        breaks = [at for at, token in enumerate(ids) if token == self.break_id][1:]
        best = parse(prompt).best
        for option, graded_so, start, end in zip(options, graded, breaks, breaks[1:], strict=False):
            first, last = start + 5, end - 1  # after the blank line, "(", the letter, ")" and the quotation mark
            words = option.split()
            questions.ends.append((row, last))
            questions.grades.append(graded_so)
            if len(words) == last - first:
                questions.words += [(row, at) for at in range(first, last)]
                questions.faultless += [float(words[: i + 1] == best[: i + 1]) for i in range(len(words))]
            if graded_so == 1.0:
                questions.perfect += [(row, at) for at in range(first - 1, last)]


def question_loss(model: LlamaForCausalLM, judge: nn.Linear, questions: Questions) -> tuple[Tensor, float]:
    """The loss of predicting letters, grades and best answers; and the share of questions answered correctly.

    ``judge`` reads from a middle layer the grade of each option and which of its words are still faultless. It only
    serves to teach, and is thrown away afterwards.
    """
    ids = padded(questions.rows)
    out = model.model(input_ids=ids, use_cache=False, output_hidden_states=True)
    middle, top = out.hidden_states[GRADE_LAYER], out.last_hidden_state
    last = torch.tensor([len(row) - 1 for row in questions.rows])
    logits, wanted = model.lm_head(top[torch.arange(len(ids)), last]), torch.stack(questions.letters)
    loss = functional.cross_entropy(logits, wanted)
    for column, places, truth in (
        (0, questions.ends, questions.grades),
        (1, questions.words, questions.faultless),
    ):
        at_rows, at_columns = torch.tensor(places).T
        judged = judge(middle[at_rows, at_columns])[:, column]
        loss = loss + functional.binary_cross_entropy_with_logits(judged, torch.tensor(truth))
    if questions.perfect:
        at_rows, at_columns = torch.tensor(questions.perfect).T
        foretold = model.lm_head(top[at_rows, at_columns])
        loss = loss + 0.5 * functional.cross_entropy(foretold, ids[at_rows, at_columns + 1])
    best = wanted.max(1, keepdim=True).values
    right = wanted.gather(1, logits.argmax(1, keepdim=True)) >= best - 1e-6
    return loss, right.float().mean().item()


def response_set(rng: random.Random, pool: list[tuple[str, list[str]]], n: int, best: float) -> tuple[str, list[str]]:
    """A prompt and ``n`` responses: a student's own or invented; with chance ``best``, the best is among them."""
    if rng.random() < 0.5:
        prompt, found = rng.choice(pool)
        responses = rng.sample(found, n) if n <= len(found) else rng.choices(found, k=n)
    else:
        prompt = world.training_instruction(rng)
        responses = [world.answer(rng, prompt, world.TEACHER_STYLES) for _ in range(n)]
    if rng.random() < best:
        responses[rng.randrange(n)] = world.best_answer(prompt)
    return prompt, responses
