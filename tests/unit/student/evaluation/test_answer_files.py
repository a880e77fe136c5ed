"""Answer files have exactly the fields that AlpacaEval 2, Arena-Hard v2 and MT-Bench read."""

import json
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import evaluate
from pad_student.commands.settings import AnswerSettings
from pad_student.errors import QuestionsError
from pad_student.evaluation.answer_files import MT_BENCH_TEMPERATURES, read_questions, write_answers
from support.tiny_student import save_tiny_student

ALPACA = [{"dataset": "helpful_base", "instruction": "why?", "output": "gold", "generator": "davinci"}]
ARENA = [{"uid": "u1", "category": "hard_prompt", "subcategory": "coding", "prompt": "how?"}]
MT_BENCH = [
    {"question_id": 81, "category": "writing", "turns": ["write", "again"]},
    {"question_id": 111, "category": "math", "turns": ["count", "more"]},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return str(save_tiny_student(tmp_path_factory.mktemp("models") / "tiny"))


def answer(tmp_path: Path, model: Any, benchmark: Any, rows: Any) -> Any:
    questions, out = tmp_path / "questions", tmp_path / "answers.out"
    lines = json.dumps(rows) if benchmark == "alpaca-eval" else "".join(json.dumps(row) + "\n" for row in rows)
    questions.write_text(lines)
    settings = AnswerSettings(benchmark=benchmark, model=model, questions=questions, out=out, max_new_tokens=6)
    evaluate.answers(settings)
    return out


def test_alpaca_eval_reads_a_json_list(tmp_path: Path, model: Any) -> None:
    (row,) = json.loads(answer(tmp_path, model, "alpaca-eval", ALPACA).read_text())
    assert row["instruction"] == "why?"
    assert (row["dataset"], row["generator"], type(row["output"])) == ("helpful_base", "tiny", str)
    assert set(row) == {"dataset", "instruction", "output", "generator"}


def test_arena_hard_reads_an_answer_and_style_counts(tmp_path: Path, model: Any) -> None:
    (row,) = map(json.loads, answer(tmp_path, model, "arena-hard", ARENA).read_text().splitlines())
    assert set(row) == {"uid", "ans_id", "model", "messages", "tstamp", "metadata"}
    assert (row["uid"], row["model"]) == ("u1", "tiny")
    assert row["messages"][0] == {"role": "user", "content": "how?"}
    assert set(row["messages"][-1]["content"]) == {"answer"}
    assert set(row["metadata"]) == {"token_len", "header_count", "list_count", "bold_count"}


def test_style_counts_leave_out_fenced_code(tmp_path: Path) -> None:
    path, questions = tmp_path / "a.jsonl", tmp_path / "q.jsonl"
    questions.write_text(json.dumps(ARENA[0]) + "\n")
    reply = "# One\n## Two\n- a\n* b\n1. c\n**bold** and __bold__\n```\n# not\n- not\n```\n"
    write_answers("arena-hard", path, "m", read_questions("arena-hard", questions, 0.0), [[reply]], len)
    metadata = json.loads(path.read_text())["metadata"]
    assert metadata["header_count"] == {"h1": 1, "h2": 1, "h3": 0, "h4": 0, "h5": 0, "h6": 0}
    assert metadata["list_count"] == {"ordered": 1, "unordered": 2}
    assert metadata["bold_count"] == {"**": 1, "__": 1}
    assert metadata["token_len"] == len(reply)


def test_mt_bench_reads_two_turns_of_one_conversation(tmp_path: Path, model: Any) -> None:
    out = answer(tmp_path, model, "mt-bench", MT_BENCH)
    rows = list(map(json.loads, out.read_text().splitlines()))
    assert [row["question_id"] for row in rows] == [81, 111]
    assert set(rows[0]) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
    assert all(len(row["choices"]) == 1 and len(row["choices"][0]["turns"]) == 2 for row in rows)
    second = [json.loads(line) for line in (tmp_path / "answers.out.turn2.jsonl").read_text().splitlines()]
    said = {row["id"]: [message["content"] for message in row["prompt"]] for row in second}
    assert said["81"] == ["write", rows[0]["choices"][0]["turns"][0] or " ", "again"]


def test_mt_bench_answers_each_category_at_its_own_temperature(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in MT_BENCH))
    assert [each.temperature for each in read_questions("mt-bench", path, 0.3)] == [0.7, 0.0]
    assert set(MT_BENCH_TEMPERATURES.values()) == {0.0, 0.1, 0.7}


def test_a_file_of_another_benchmark_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(ARENA[0]) + "\n")
    with pytest.raises(QuestionsError, match="not a question file of mt-bench"):
        read_questions("mt-bench", path, 0.0)
