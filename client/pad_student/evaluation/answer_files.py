"""Reads question files and writes answer files of AlpacaEval 2, Arena-Hard v2 and MT-Bench."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import orjson

from pad_student.errors import QuestionsError
from pad_wire.atomic import write_atomically

Benchmark = Literal["alpaca-eval", "arena-hard", "mt-bench"]

# FastChat's temperature for each category
MT_BENCH_TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
MT_BENCH_TEMPERATURE = 0.7


@dataclass(frozen=True, slots=True)
class Question:
    """One question: the user's turns, the sampling temperature of its answer, and its row in the file."""

    id: str
    turns: list[str]
    temperature: float
    row: dict[str, Any]


def read_questions(benchmark: Benchmark, path: Path, temperature: float) -> list[Question]:
    """Read a benchmark's own question file; ``temperature`` applies if the benchmark sets none.

    Raises:
        QuestionsError: the file has another form.
    """
    try:
        content = path.read_bytes()
        rows = orjson.loads(content) if benchmark == "alpaca-eval" else list(map(orjson.loads, content.splitlines()))
        return [_question(benchmark, index, row, temperature) for index, row in enumerate(rows)]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise QuestionsError(f"{path} is not a question file of {benchmark}: {error}") from None


def write_answers(
    benchmark: Benchmark,
    path: Path,
    model: str,
    questions: Sequence[Question],
    replies: Sequence[list[str]],
    count_tokens: Callable[[str], int],
) -> None:
    """Write the answer file, whole or not at all; ``replies`` has one text for each turn of each question."""
    pairs = list(zip(questions, replies, strict=True))
    if benchmark == "alpaca-eval":
        content = orjson.dumps([_alpaca_eval(model, *pair) for pair in pairs], option=orjson.OPT_INDENT_2)
    elif benchmark == "arena-hard":
        content = _json_lines([_arena_hard(model, *pair, count_tokens) for pair in pairs])
    else:
        content = _json_lines([_mt_bench(model, *pair) for pair in pairs])
    write_atomically(path, content)


def _question(benchmark: Benchmark, index: int, row: dict[str, Any], temperature: float) -> Question:
    if benchmark == "alpaca-eval":
        return Question(str(index), [row["instruction"]], temperature, row)
    if benchmark == "arena-hard":
        return Question(row["uid"], [row["prompt"]], temperature, row)
    own = MT_BENCH_TEMPERATURES.get(row["category"], MT_BENCH_TEMPERATURE)
    return Question(str(row["question_id"]), list(row["turns"]), own, row)


def _alpaca_eval(model: str, question: Question, replies: list[str]) -> dict[str, Any]:
    return {
        "dataset": question.row.get("dataset", "alpaca_eval"),
        "instruction": question.turns[0],
        "output": replies[0],
        "generator": model,
    }


def _arena_hard(
    model: str, question: Question, replies: list[str], count_tokens: Callable[[str], int]
) -> dict[str, Any]:
    return {
        "uid": question.row["uid"],
        "ans_id": uuid4().hex,
        "model": model,
        "messages": [
            {"role": "user", "content": question.turns[0]},
            {"role": "assistant", "content": {"answer": replies[0]}},
        ],
        "tstamp": time.time(),
        "metadata": {"token_len": count_tokens(replies[0]), **_markdown_counts(replies[0])},
    }


def _mt_bench(model: str, question: Question, replies: list[str]) -> dict[str, Any]:
    return {
        "question_id": question.row["question_id"],
        "answer_id": uuid4().hex,
        "model_id": model,
        "choices": [{"index": 0, "turns": replies}],
        "tstamp": time.time(),
    }


def _markdown_counts(text: str) -> dict[str, dict[str, int]]:
    """Headings, list items and bold text outside fenced code, as Arena-Hard's style control counts them."""
    prose = re.sub(r"```[^`]*```", "", text)

    def count(pattern: str) -> int:
        return len(re.findall(pattern, prose, re.MULTILINE))

    return {
        "header_count": {f"h{level}": count(rf"^#{{{level}}}\s") for level in range(1, 7)},
        "list_count": {"ordered": count(r"^\s*\d+\.\s"), "unordered": count(r"^\s*[-*+]\s")},
        "bold_count": {"**": count(r"\*\*[^*\n]+\*\*"), "__": count(r"__[^_\n]+__")},
    }


def _json_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
