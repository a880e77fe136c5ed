"""``pad-student eval``: gold score, teacher-judged win rate, and answers to benchmarks."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson

from pad_student.commands.common import closing_line, connect, progress, prompts_of, template_options
from pad_student.commands.sample import SamplingOptions, sample_into, skipped_note
from pad_student.commands.settings import AnswerSettings, GradeSettings, Settings, WinRateSettings
from pad_student.data.prompts import PromptLine
from pad_student.errors import EvaluationError
from pad_student.evaluation.answer_files import Question, read_questions, write_answers
from pad_student.evaluation.grading import Estimate, estimate, grades, lengths, load_grader, win
from pad_student.storage import jsonl
from pad_student.storage.jsonl import Appender
from pad_student.storage.run_directory import bind_to_settings
from pad_wire import Message, SampledSet
from pad_wire.chat import as_text


def grade(settings: GradeSettings) -> None:
    """Grade a model's responses; writes ``grades.jsonl`` (a line a prompt) and ``result.json``."""
    grader = load_grader(settings.grader)
    _bind(settings.out, settings)
    sets = _responses(settings, settings.model, "responses")
    graded = {each.id: grades(grader, each.id, as_text(each.prompt), each.responses) for each in sets}
    means = {set_id: estimate(values).mean for set_id, values in graded.items()}
    rows = [{"id": set_id, "grades": values, "mean": means[set_id]} for set_id, values in graded.items()]
    (settings.out / "grades.jsonl").write_bytes(
        b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    )
    # Responses to one prompt are correlated: only prompts count as independent values.
    score = estimate(list(means.values()))
    all_lengths = lengths([response for each in sets for response in each.responses])
    _report(settings.out, "gold score", score, {"model": settings.model, **all_lengths})


def win_rate(settings: WinRateSettings) -> None:
    """Compare two models' responses; writes ``comparisons.jsonl`` and ``result.json``."""
    _bind(settings.out, settings)
    ours = _responses(settings, settings.model, "responses")
    theirs = {each.id: each for each in _responses(settings, settings.baseline, "baseline")}
    comparisons = [
        SampledSet(id=f"{each.id}#{k}", prompt=each.prompt, responses=list(pair))
        for each in ours
        if each.id in theirs
        for k, pair in enumerate(zip(each.responses, theirs[each.id].responses, strict=False))
    ]
    path = settings.out / "comparisons.jsonl"
    teacher = _compare(settings, path, comparisons)
    wins, preferences, masses = defaultdict(list), [], []
    for row in map(orjson.loads, path.read_bytes().splitlines()):
        wins[row["id"].rpartition("#")[0]].append(win(row["preference"]))
        preferences.append(row["preference"])
        masses.append(row["label_mass"])
    rate = estimate([estimate(values).mean for values in wins.values()])
    details = {
        "model": settings.model,
        "baseline": settings.baseline,
        "teacher": teacher,
        "mean_preference": estimate(preferences).mean,
        "label_mass": estimate(masses).mean,
        "model_lengths": lengths([each.responses[0] for each in comparisons]),
        "baseline_lengths": lengths([each.responses[1] for each in comparisons]),
    }
    _report(settings.out, "win rate", rate, details)


def answers(settings: AnswerSettings) -> None:
    """Answer a benchmark's questions turn by turn, and write the answers in its own format."""
    from pad_student.sampling.generate import load_student

    questions = read_questions(settings.benchmark, settings.questions, settings.temperature)
    student = load_student(settings.model, template=template_options(settings))
    replies: dict[str, list[str]] = {question.id: [] for question in questions}
    empty = 0
    for turn in range(max(len(question.turns) for question in questions)):
        path = settings.out.with_name(f"{settings.out.name}.turn{turn + 1}.jsonl")
        asked = [question for question in questions if len(question.turns) > turn]
        for temperature in sorted({question.temperature for question in asked}):
            prompts = [_turn(each, replies[each.id]) for each in asked if each.temperature == temperature]
            how = SamplingOptions(1, temperature, settings.max_new_tokens, settings.batch_size, settings.seed)
            empty += len(sample_into(path, prompts, student, how))
        texts = {each.id: each.responses[0].text for each in jsonl.read(path, SampledSet)}
        for question in asked:
            replies[question.id].append(texts.get(question.id, ""))

    def count_tokens(text: str) -> int:
        return len(student.encoder.response_ids([text], [False])[0])

    name = settings.name or Path(settings.model).name
    write_answers(settings.benchmark, settings.out, name, questions, list(replies.values()), count_tokens)
    note = f"; {empty} of them empty, because the context had no room for them" if empty else ""
    closing_line(f"{settings.out}: {len(questions)} answers of {name}{note}")


def _responses(settings: GradeSettings | WinRateSettings, model: str, name: str) -> list[SampledSet]:
    """Response sets from a file, or sampled from a model."""
    if model.endswith(".jsonl"):
        return list(jsonl.read(Path(model), SampledSet))
    if settings.prompts is None:
        raise EvaluationError(f"to sample from {model}, give --prompts")
    path = settings.out / f"{name}.jsonl"
    how = SamplingOptions.of(settings)
    skipped = sample_into(path, prompts_of(settings.prompts, settings, model), model, how)
    if skipped:
        closing_line(f"{path}: of {model}{skipped_note(skipped)}")
    return list(jsonl.read(path, SampledSet))


def _compare(settings: WinRateSettings, path: Path, comparisons: list[SampledSet]) -> str | None:
    """Have the teacher compare what ``path`` does not hold yet; return the teacher's fingerprint."""
    with Appender(path) as rows:
        first = next(iter(path.read_bytes().splitlines()), None)
        fingerprint = orjson.loads(first)["teacher"] if first else None
        missing = [each for each in comparisons if each.id not in rows.held]
        if not missing:
            return fingerprint
        with (
            connect(settings, fingerprint) as teacher,
            progress(total=len(comparisons), done=len(comparisons) - len(missing), unit="comparisons") as bar,
        ):
            teacher.model()
            for each in teacher.selection(missing, form="pairwise", orders="both"):
                preference = each.responses[0].selection_probability
                rows.append(
                    {
                        "id": each.id,
                        "preference": preference,
                        "label_mass": each.label_mass,
                        "teacher": teacher.fingerprint,
                    }
                )
                bar.update()
            return teacher.fingerprint


def _turn(question: Question, replies: list[str]) -> PromptLine:
    """The conversation before the next reply; an empty reply becomes a space, since no message may be empty."""
    messages: list[Message] = []
    for turn, reply in zip(question.turns, replies, strict=False):
        messages += [Message(role="user", content=turn), Message(role="assistant", content=reply or " ")]
    return PromptLine(id=question.id, prompt=[*messages, Message(role="user", content=question.turns[len(replies)])])


def _bind(out: Path, settings: Settings) -> None:
    """Refuse to continue another evaluation, whose responses would count as this one's."""
    bind_to_settings(
        out / "settings.json", settings.model_dump(mode="json", exclude={"teacher", "key", "job", "out"})
    )


def _report(out: Path, what: str, value: Estimate, details: dict[str, Any]) -> None:
    result = {what.replace(" ", "_"): value.mean, "standard_error": value.standard_error, "n": value.n, **details}
    (out / "result.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    error = "" if value.standard_error is None else f" ± {value.standard_error:.4f}"
    print(f"{what} {value.mean:.4f}{error} over {value.n} prompts")
    closing_line(f"{out / 'result.json'}: written")


# pyright: standard
