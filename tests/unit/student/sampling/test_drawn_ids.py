"""The student's likelihood is that of the ids it drew, although its tokenizer makes others of the text."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import pad_student as pad
from pad_student.data.drawn_ids import ids_of
from pad_student.data.lengths import set_fits
from pad_student.data.response_sets import read_sets
from pad_student.sampling.generate import responses_with_text, sample_responses
from pad_student.storage import jsonl
from pad_student.training.heldout.student import log_likelihoods
from pad_student.training.trainer import PADTrainer
from pad_wire import Response, SampledSet, ScoredResponse, ScoredSet, TeacherId
from pad_wire.chat import ChatEncoder
from support.fake_teacher import FakeTeacherService
from support.fakes import byte_tokenizer
from support.student_runs import RuleTeacher, config, metrics, weights

SPECIAL = ["<pad>", "<user>", "<assistant>", "<end>", "<stop>"]
END, STOP = 3, 4
MERGES = [("a", "b"), ("c", "d"), ("ab", "cd")]
VOCABULARY = [*SPECIAL, "a", "b", "c", "d", "ab", "cd", "abcd"]
A, B, C, D, AB, CD, ABCD = range(5, 12)
PROMPTS = [{"id": f"p{k}", "prompt": text} for k, text in enumerate(["abcd", "dcba", "aa", "cd", "bd", "c"])]


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Writes "abcd" as one token; a student may draw any of five spellings."""
    model = models.BPE(vocab={token: place for place, token in enumerate(VOCABULARY)}, merges=MERGES)
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Fuse()
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    names = {"pad_token": "<pad>", "eos_token": "<end>", "extra_special_tokens": SPECIAL[1:3] + SPECIAL[4:]}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **names)


def merging_student(context: int = 64) -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    settings = LlamaConfig(
        vocab_size=len(VOCABULARY), max_position_embeddings=context, eos_token_id=END, pad_token_id=0, **sizes
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(settings)


ENCODER = ChatEncoder.of(merging_tokenizer())


def drawn(*rows: list[int], ends: set[int] | None = None) -> list[Response]:
    """The responses that are made of rows of new tokens."""
    return responses_with_text(ENCODER, ends or {END}, [0], 1, lambda *_: [list(rows)])[0]


def scored(responses: list[Response]) -> ScoredSet:
    numbers = {"tokens": 2, "log_likelihood": -2.0, "mean_log_likelihood": -1.0}
    choices = [{"selection_probability": (k + 1) / 10} for k in range(len(responses))]
    made = [ScoredResponse(**r.model_dump(), **numbers, **c) for r, c in zip(responses, choices, strict=True)]
    teacher = TeacherId(model="t", fingerprint="f")
    return ScoredSet(id="s", prompt="dcba", responses=made, label_mass=0.9, teacher=teacher)


def test_ids_are_kept_only_if_they_are_not_those_of_the_text() -> None:
    found = drawn([A, B, CD, END, 0], [ABCD, END, 0, 0, 0], [C, D, C, D, A])
    assert [each.text for each in found] == ["abcd", "abcd", "cdcda"]
    assert [each.ids for each in found] == [[A, B, CD, END], None, [C, D, C, D, A]]
    assert ids_of(ENCODER, found) == [[A, B, CD, END], [ABCD, END], [C, D, C, D, A]]


def test_an_end_that_the_template_does_not_write_is_kept() -> None:
    (found,) = drawn([ABCD, STOP, 0], ends={END, STOP})
    assert (found.text, found.finished, found.ids) == ("abcd", True, [ABCD, STOP])


def test_the_students_likelihood_is_that_of_the_drawn_ids() -> None:
    """An oracle in float64 adds up full logits; the ids of the text would give another number."""
    student = merging_student().double()
    rows = [[A, B, CD, END], [ABCD, END], [AB, C, D], [B, A, B, END]]
    responses = drawn(*(row + [0] * (4 - len(row)) if END in row else row for row in rows))
    each = scored(responses)
    prompt = ENCODER.prompt_ids("dcba")
    expected = []
    for row in rows:
        logits = student(input_ids=torch.tensor([prompt + row])).logits[0, len(prompt) - 1 : -1]
        expected.append(logits.log_softmax(-1).gather(1, torch.tensor(row)[:, None]).sum().item())
    batch = pad.batch_of([each], ENCODER, alpha=0.5)
    rows_of_batch = (batch[name] for name in ("input_ids", "attention_mask", "response_mask"))
    found = pad.response_log_likelihoods(student, *rows_of_batch)
    assert found.log_likelihood.tolist() == pytest.approx(expected, abs=1e-6)
    assert found.tokens.tolist() == [4, 2, 3, 4]
    assert batch["other_ids"].tolist() == [[True, False, True, True]]
    held_out = log_likelihoods(student, ENCODER, [(each, r) for r in responses])  # type: ignore[misc]
    assert [value for value, _ in held_out] == pytest.approx(expected, abs=1e-5)
    of_texts = each.model_copy(update={"responses": [r.model_copy(update={"ids": None}) for r in each.responses]})
    plain = pad.batch_of([of_texts], ENCODER, alpha=0.5)
    assert plain["input_ids"].shape != batch["input_ids"].shape


def test_ids_of_another_tokenizer_are_not_used() -> None:
    (one,) = drawn([A, B, CD, END])
    other = ChatEncoder.of(byte_tokenizer())
    assert ids_of(other, [one]) == other.response_ids(["abcd"], [True])
    unknown = one.model_copy(update={"ids": [A, B, CD, 999]})
    assert ids_of(ENCODER, [unknown]) == [[ABCD, END]]


def test_a_set_fits_only_with_the_ids_that_were_drawn() -> None:
    spelled = drawn([A, B, C, D] * 4 + [END])
    room = len(ENCODER.prompt_ids("a")) + len(ENCODER.response_ids(["abcd" * 4], [True])[0])
    assert set_fits(ENCODER, "a", [spelled[0].model_copy(update={"ids": None})], room)
    assert not set_fits(ENCODER, "a", spelled, room)


def test_the_teacher_never_sees_ids_and_scores_keep_them() -> None:
    service = FakeTeacherService()
    sets = [SampledSet(id="s", prompt="dcba", responses=drawn([A, B, END], [AB, END, 0]))]
    for alpha in (0.0, 0.5):
        (found,) = pad.Teacher("http://t", transport=service.transport).score(sets, alpha=alpha)
        assert [each.ids for each in found.responses] == [[A, B, END], None]
    assert all(set(r) <= {"text", "finished"} for body in service.bodies for r in body["sets"][0]["responses"])


def test_stored_sets_with_and_without_ids_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    rows = [{"text": "ab", "finished": True, "ids": [A, B, END]}, {"text": "ab", "finished": True}]
    path.write_text(json.dumps({"id": "s", "prompt": "d", "responses": rows}) + "\n")
    (found,) = jsonl.read(path, SampledSet)
    assert [each.ids for each in found.responses] == [[A, B, END], None]
    ((given, _),) = read_sets(path)
    assert given == found
    row = {"id": "s", "prompt": "d", "responses": [{"text": "ab", "ids": "of another kind"}, *rows]}
    (path := tmp_path / "other.jsonl").write_text(json.dumps(row))
    ((foreign, _),) = read_sets(path)
    assert [each.ids for each in foreign.responses] == [None, [A, B, END], None]
    with jsonl.Appender(tmp_path / "again.jsonl") as again:
        again.append(found)
    assert json.loads((tmp_path / "again.jsonl").read_text())["responses"] == rows


def test_a_continued_run_trains_on_the_ids_that_were_drawn(tmp_path: Path) -> None:
    settings = {"n": 2, "max_response_tokens": 8, "temperature": 1.5, "lr_scheduler_type": "constant"}

    def run(name: str, **changes: Any) -> PADTrainer:
        how = config(tmp_path / name, **settings | changes)
        return PADTrainer(merging_student(), how, PROMPTS, merging_tokenizer(), RuleTeacher())

    (whole := run("whole")).train()
    run("again", max_steps=4).train()
    (again := run("again")).train(resume_from_checkpoint=str(tmp_path / "again" / "checkpoint-2"))
    assert (weights(whole) == weights(again)).all()
    assert all(0 < line["share/other_ids"] <= 1 for line in metrics(tmp_path / "whole") if "loss" in line)
    for name in ("sets", "scored"):
        lines = (tmp_path / "again" / "rounds" / "000000" / f"{name}.jsonl").read_text().splitlines()
        assert any("ids" in response for line in lines for response in json.loads(line)["responses"])


def test_sampling_keeps_the_ids_of_the_same_draws() -> None:
    student = merging_student()
    how: Any = {"n": 4, "temperature": 1.5, "max_new_tokens": 8, "seed": 0}
    found = [r for each in sample_responses(student, ENCODER, ["abcd", "dcba"], **how) for r in each]
    assert any(each.ids for each in found)
    for each, ids in zip(found, ids_of(ENCODER, found), strict=True):
        assert each.text == ENCODER.tokenizer.decode(ids, skip_special_tokens=True)
        assert each.ids is None or len(each.ids) <= 8
