"""Preference data: TRL's forms, DPO-mix-7k's and HelpSteer2's columns, and rows without a pair."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from pad_student.data.prompts import PromptOptions, read_prompts
from pad_student.errors import PromptsError
from pad_student.training.batches import as_rows


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ASK = "What is two and two?"
FORMS: dict[str, dict[str, Any]] = {
    "explicit texts": {"prompt": ASK, "chosen": "Four.", "rejected": "Five."},
    "explicit messages": {"prompt": [user(ASK)], "chosen": [assistant("Four.")], "rejected": [assistant("Five.")]},
    "implicit messages": {"chosen": [user(ASK), assistant("Four.")], "rejected": [user(ASK), assistant("Five.")]},
    "implicit texts": {"chosen": f"{ASK} Four.", "rejected": f"{ASK} Five."},
    "a prompt and whole conversations": {
        "prompt": ASK,
        "chosen": [user(ASK), assistant("Four.")],
        "rejected": [user(ASK), assistant("Five.")],
    },
    "DPO-mix-7k": {
        "dataset": "argilla/distilabel-math",
        "chosen": [user(ASK), assistant("Four.")],
        "chosen_rating": 5.0,
        "rejected": [user(ASK), assistant("Five.")],
        "rejected_rating": 2.0,
    },
    "HelpSteer2, the second better": {
        "prompt": ASK,
        "response_1": "Five.",
        "response_2": "Four.",
        "preference_strength": 2,
        "preference_statement": "Response 2 is right.",
    },
    "HelpSteer2, the first better": {
        "prompt": ASK,
        "response_1": "Four.",
        "response_2": "Five.",
        "preference_strength": -3,
    },
}


def read(folder: Path, *rows: dict[str, Any]) -> list[Any]:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_prompts(path, PromptOptions(pairs=True))


@pytest.mark.parametrize("row", FORMS.values(), ids=FORMS)
def test_every_form_gives_prompt_chosen_and_rejected(tmp_path: Path, row: dict[str, Any]) -> None:
    (line,) = read(tmp_path, row)
    assert (line.chosen, line.rejected) == ("Four.", "Five.")
    assert line.prompt == ASK or [each.model_dump() for each in line.prompt] == [user(ASK)]


def test_two_pairs_of_one_prompt_are_two_rows(tmp_path: Path) -> None:
    one = FORMS["explicit texts"]
    first, second = read(tmp_path, one, one | {"rejected": "Six."})
    assert first.id != second.id


def test_a_system_turn_stays_in_the_prompt(tmp_path: Path) -> None:
    system = {"role": "system", "content": "be brief"}
    both = {name: [system, *FORMS["implicit messages"][name]] for name in ("chosen", "rejected")}
    (line,) = read(tmp_path, both)
    assert [each.role for each in line.prompt] == ["system", "user"]


@pytest.mark.parametrize(
    "without",
    [
        {"prompt": ASK, "chosen": "Four.", "rejected": "Four."},
        {"prompt": ASK, "chosen": "Four.", "rejected": " "},
        {"prompt": ASK, "response_1": "a", "response_2": "b", "preference_strength": 0},
    ],
)
def test_a_row_that_prefers_nothing_is_left_out_and_counted(
    tmp_path: Path, without: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(read(tmp_path, without, FORMS["explicit texts"])) == 1
    assert "1 rows without a pair" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": ASK}, "expected chosen and rejected"),
        ({"prompt": ASK, "chosen": "Four."}, "rejected"),
        ({"prompt": ASK, "chosen": [user("no")], "rejected": "Five."}, "end with the assistant"),
        ({"chosen": "Four.", "rejected": "Five."}, "shared beginning"),
        ({"prompt": ASK, "response_1": "a", "response_2": "b"}, "preference_strength"),
    ],
)
def test_a_row_without_an_answer_is_one_clear_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptsError, match=message):
        read(tmp_path, row)


def test_prompts_alone_have_the_ids_that_they_had(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(FORMS["explicit texts"]))
    (line,) = read_prompts(path)
    path.write_text(json.dumps({"prompt": ASK}))
    assert read_prompts(path) == [line]


def test_rows_of_a_dataset_without_a_pair_are_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    """All rows are read in one pass, scored sets among them."""
    rows = [{"prompt": f"{k}?", "chosen": "yes", "rejected": "yes" if k % 2 else "no"} for k in range(6)]
    assert len(as_rows(rows, pairs=True)) == 3
    (said,) = caplog.messages
    assert said.startswith("train_dataset: 3 rows without a pair are left out; the first, row 1")
