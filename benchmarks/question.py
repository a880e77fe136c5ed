"""Which wording of the multiple-choice question a teacher answers best, on sets of known quality.

    python -m benchmarks.question --models DIR_OR_HUB_ID,DIR_OR_HUB_ID
    python -m benchmarks.question --teacher URL

The sets are the first 24 that ship with the client: a right answer, a plausible wrong one, a right answer to another
request, and the right answer's words in another order. Every rotation of the four is asked. A wording is chosen on
one half of the sets and confirmed on the other. Writes results/question.json. With a teacher's address it asks that
service about the next 16 sets, which nothing was chosen on, and writes results/question_unseen.json.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.environment import RESULTS, circumstances
from pad_student import Teacher as Service
from pad_student.evaluation.audit.known_sets import KnownSet, shipped_sets
from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.scoring.questions import combine, question_orders
from pad_teacher.scoring.teacher import Teacher
from pad_torch.declared_ends import saved_ends
from pad_torch.own_tokenizer import load_tokenizer
from pad_wire.chat import ChatEncoder
from pad_wire.question import PLAIN, QuestionForm

KINDS = ("right", "wrong", "off-topic", "scrambled")
SETS, UNSEEN = 24, 16
CRITERION = "Which response is the most helpful, correct and relevant?"
ANNOUNCED = "{request}\n\nHere are responses to the request above:\n\n{options}\n\n" + CRITERION
WORDINGS = {
    "plain: the letter is the answer": PLAIN,
    "plain, answer begun": PLAIN.model_copy(update={"answer": "The best response is:\n"}),
    "criterion, brackets, answer begun": QuestionForm(user=ANNOUNCED, option="({letter}) {text}"),
    "criterion, brackets, quotes, answer begun: the default": QuestionForm(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--models", help="directories or hub ids, with a comma between")
    of.add_argument("--teacher", help="the address of a service")
    options = parser.parse_args()
    if options.teacher:
        name, found = "question_unseen", {"over http": asked_over_http(options.teacher)}
    else:
        name, found = "question", {"dtype": "float32", "models": wordings_of(options.models.split(","))}
    result = circumstances("question", "cpu") | {"kinds": KINDS} | found
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def wordings_of(names: Sequence[str]) -> dict[str, Any]:
    """Every wording's result for each model."""
    sets = shipped_sets(KINDS)[:SETS]
    models: dict[str, Any] = {}
    for name in names:
        engine = TransformersEngine.load(name, revision=None, dtype="float32", device="cpu")
        encoder = ChatEncoder.of(load_tokenizer(name), ends=saved_ends(name))
        rows: dict[str, Any] = {}
        for wording, form in WORDINGS.items():
            teacher = Teacher.of(Path(name).name, encoder, engine, form)
            rows[wording] = {"chosen on": asked(teacher, sets[::2]), "confirmed on": asked(teacher, sets[1::2])}
            print(f"{Path(name).name}, {wording}:\n  {rows[wording]['chosen on']}\n  {rows[wording]['confirmed on']}")
        models[Path(name).name] = rows
        engine.close()
    return models


def asked_over_http(url: str) -> dict[str, Any]:
    """The default way to ask, listwise in all rotations, over the sets after the first 24."""
    sets = [known.set for known in shipped_sets(KINDS)[SETS : SETS + UNSEEN]]
    with Service(url) as service:
        replies = list(service.selection(sets, form="listwise", orders="cyclic"))
        model = service.model().id
    table_S_N = np.array([[each.selection_probability for each in reply.responses] for reply in replies])
    found = {"model": Path(model).name} | summary(table_S_N, [reply.label_mass for reply in replies])
    print(found)
    return found


@torch.inference_mode()
def asked(teacher: Teacher, sets: Sequence[KnownSet]) -> dict[str, Any]:
    """Mean selection probability of each kind, how often the right one is first, and the mass on letters."""
    probabilities: list[list[float]] = []
    masses: list[float] = []
    for known in sets:
        texts = [response.text for response in known.set.responses]
        orders = question_orders(len(texts), "listwise", "cyclic")
        request = known.set.prompt
        if not isinstance(request, str):
            raise TypeError("a shipped set's prompt is a text")
        rows = [teacher.question_ids(request, [texts[i] for i in order]) for order in orders]
        found = teacher.engine.label_logprobs(rows, [teacher.letter_ids[: len(texts)]] * len(rows))
        choice = combine(len(texts), orders, [each.tolist() for each in found])
        probabilities.append(choice.selection_probabilities)
        masses.append(choice.label_mass)
    return summary(np.array(probabilities), masses)


def summary(table_S_N: np.ndarray, masses: Sequence[float]) -> dict[str, Any]:
    return {
        "selection_probability": [round(float(mean), 3) for mean in table_S_N.mean(0)],
        "right_first": int((table_S_N.argmax(1) == 0).sum()),
        "sets": len(table_S_N),
        "label_mass": round(float(np.mean(masses)), 3),
    }


if __name__ == "__main__":
    main()
