"""The tiny world: its grader, and its two models, which are small, ordinary and different."""

import json
import random
import sys
from collections import Counter
from statistics import fmean as mean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from pad_wire.chat import ChatEncoder
from pad_wire.question import QuestionForm
from pad_wire.scoring import LETTERS
from pad_wire.tokenizer_digest import tokenizer_digest
from support.paths import ROOT

HERE = ROOT / "examples" / "tinyworld"
sys.path.insert(0, str(HERE))  # the world's files are scripts, not a package

import grade  # noqa: E402
import world  # noqa: E402
from learning import sample  # noqa: E402

PROMPT_OF_EACH_KIND = [world.instruction(random.Random(0), kind) for kind in world.KINDS]
CONVERSATION = [
    {"role": "system", "content": "be polite"},
    {"role": "user", "content": "say cat two times"},
    {"role": "assistant", "content": "cat cat"},
]
each_kind = pytest.mark.parametrize("prompt", PROMPT_OF_EACH_KIND, ids=world.KINDS)
each_model = pytest.mark.parametrize("folder", ["teacher", "student"])


def prompts_of(name):
    return [json.loads(line)["prompt"] for line in (HERE / f"{name}.jsonl").read_text().splitlines()]


def tokenizer_of(folder):
    return AutoTokenizer.from_pretrained(HERE / folder)


@each_kind
def test_the_best_answer_is_graded_one(prompt):
    assert grade.grade(prompt, world.best_answer(prompt)) == 1.0


@each_kind
@pytest.mark.parametrize("response", ["", " \n", "zzz", "no", "go away", "\x00 🎉 日本", "cat " * 5000])
def test_junk_is_graded_zero(prompt, response):
    assert grade.grade(prompt, response) == 0.0


@each_kind
def test_an_answer_cut_short_earns_part_of_the_credit(prompt):
    cut = " ".join(world.best_answer(prompt).split()[:-1])
    assert 0.0 < grade.grade(prompt, cut) < 1.0


@each_kind
def test_an_answer_that_goes_on_too_long_earns_less(prompt):
    assert grade.grade(prompt, world.best_answer(prompt) + " cat cat") < 1.0


@each_kind
def test_capitals_and_full_stops_cost_nothing(prompt):
    assert grade.grade(prompt, world.best_answer(prompt).capitalize() + ".") == 1.0


@given(st.text(), st.text())
def test_any_text_at_all_gets_a_grade(prompt, response):
    assert grade.grade(prompt, response) == 0.0


@given(st.sampled_from(PROMPT_OF_EACH_KIND), st.text() | st.lists(st.sampled_from(world.NOUNS)).map(" ".join))
def test_grades_come_in_quarters_between_zero_and_one(prompt, response):
    assert grade.grade(prompt, response) in {0.0, 0.25, 0.5, 0.75, 1.0}


def test_instructions_are_told_apart_by_their_text_alone():
    assert [grade.parse(prompt).kind for prompt in PROMPT_OF_EACH_KIND] == world.KINDS


@pytest.mark.parametrize("prompt", ["count from cat to dog", "give the opposites of: cat", "say cat banana times"])
def test_an_instruction_with_unfit_words_is_no_instruction(prompt):
    assert grade.parse(prompt) is None


def test_styles_earn_different_grades_on_one_prompt():
    rng = random.Random(1)
    prompt = PROMPT_OF_EACH_KIND[0]
    answers = [world.answer(rng, prompt, world.STUDENT_STYLES) for _ in range(100)]
    assert len(set(world.graded(prompt, answers))) >= 4


def test_held_out_prompts_are_never_trained_on():
    prompts, held_out = prompts_of("prompts"), prompts_of("heldout")
    assert (len(set(prompts)), len(set(held_out))) == (2000, 400)
    assert not any(map(world.is_held_out, prompts))
    assert all(map(world.is_held_out, held_out))


@pytest.mark.parametrize("name", ["prompts", "heldout"])
def test_every_kind_of_instruction_comes_up(name):
    kinds = Counter(grade.parse(prompt).kind for prompt in prompts_of(name))
    assert set(kinds) == set(world.KINDS)
    assert min(kinds.values()) >= 10


@each_model
def test_a_model_loads_with_the_ordinary_classes_in_float32(folder):
    model = AutoModelForCausalLM.from_pretrained(HERE / folder)
    tokenizer = tokenizer_of(folder)
    assert model.dtype.is_floating_point
    assert model.dtype.itemsize == 4
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.generation_config.eos_token_id == ChatEncoder.of(tokenizer).end_of_turn


def test_the_models_are_small():
    parameters = {
        folder: AutoModelForCausalLM.from_pretrained(HERE / folder).num_parameters()
        for folder in ("teacher", "student")
    }
    stored = sum(file.stat().st_size for folder in parameters for file in (HERE / folder).iterdir())
    assert 1e6 <= parameters["teacher"] <= 5e6
    assert parameters["student"] < 1e6
    assert stored <= 20 * 2**20


def test_teacher_and_student_share_no_vocabulary_or_template():
    teacher, student = tokenizer_of("teacher"), tokenizer_of("student")
    assert len(teacher) != len(student)
    assert teacher.get_vocab() != student.get_vocab()
    assert teacher.chat_template != student.chat_template
    assert type(teacher.backend_tokenizer.decoder) is not type(student.backend_tokenizer.decoder)


@pytest.mark.parametrize("folder", ["aligned", "reference"])
def test_the_aligned_pair_shares_the_students_tokenizer(folder):
    ours, theirs = tokenizer_of("student"), tokenizer_of(folder)
    assert tokenizer_digest(theirs) == tokenizer_digest(ours)
    assert theirs.chat_template == ours.chat_template


def test_the_aligned_pair_takes_ten_megabytes_at_most():
    files = [file for folder in ("aligned", "reference") for file in (HERE / folder).iterdir()]
    assert sum(file.stat().st_size for file in files) <= 10 * 10**6


def test_the_aligned_teacher_answers_better_than_its_reference():
    """The committed weights on some of the held-out prompts; measured_aligned.json has all of them."""
    prompts, grades = prompts_of("heldout")[:80], {}
    for folder in ("aligned", "reference"):
        model = AutoModelForCausalLM.from_pretrained(HERE / folder)
        torch.manual_seed(0)
        samples = sample(model, ChatEncoder.of(tokenizer_of(folder)), prompts, 4, 0.8)
        rows = zip(prompts, samples, strict=True)
        grades[folder] = mean([value for p, row in rows for value in world.graded(p, [text for text, _ in row])])
    assert grades["aligned"] > grades["reference"] + 0.08
    measured = json.loads((HERE / "measured_aligned.json").read_text())
    for folder, value in grades.items():
        assert value == pytest.approx(measured[f"{folder}_grade_sampled"]["all"], abs=0.06)


def test_the_pairs_are_graded_and_none_is_held_out():
    pairs = [json.loads(line) for line in (HERE / "pairs.jsonl").read_text().splitlines()]
    assert len(pairs) > 1500
    for pair in pairs:
        prompt, chosen, rejected = (pair[name][0]["content"] for name in ("prompt", "chosen", "rejected"))
        assert not world.is_held_out(prompt)
        assert grade.grade(prompt, chosen) > grade.grade(prompt, rejected)


@each_model
def test_any_text_survives_the_tokenizer(folder):
    tokenizer = tokenizer_of(folder)

    @given(st.text())
    def survives(text):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_token_id not in ids

    survives()
    for text in ("two  blanks \t", "▁low line", "<0x41>", "naïve 日本 🎉", "\n\n A. don't , stop", "a\r\nb"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@each_model
def test_each_option_letter_is_one_token(folder):
    tokenizer = tokenizer_of(folder)
    assert all(len(tokenizer(letter, add_special_tokens=False)["input_ids"]) == 1 for letter in LETTERS)


@each_model
def test_the_template_takes_every_role_and_closes_answers(folder):
    tokenizer = tokenizer_of(folder)
    encoder = ChatEncoder.of(tokenizer)
    whole = tokenizer.apply_chat_template(CONVERSATION, return_dict=False)
    asked = tokenizer.apply_chat_template(CONVERSATION[:2], add_generation_prompt=True, return_dict=False)
    assert whole[: len(asked)] == asked
    assert whole[len(asked) :] == encoder.response_ids(["cat cat"], [True])[0]
    assert encoder.end_of_turn in tokenizer.all_special_ids


@each_model
def test_a_question_stays_short(folder):
    form = QuestionForm()
    messages = form.messages(PROMPT_OF_EACH_KIND[0], ["one two three four five six"] * 4)
    assert len(ChatEncoder.of(tokenizer_of(folder)).prefilled_ids(messages, form.answer)) < 110
