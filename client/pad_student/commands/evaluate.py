"""``pad-student eval``: gold score, teacher-judged win rate, and answers to benchmarks."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson

from pad_student.commands.common import closing_line, connect, progress, prompts_of, template_options
from pad_student.commands.sample import WHICH_PROMPTS, SamplingOptions, sample_into, skipped_note
from pad_student.commands.settings import (
    AnswerSettings,
    GradeSettings,
    ServiceAccess,
    Settings,
    WinRateSettings,
)
from pad_student.data.prompts import PromptLine
from pad_student.data.response_sets import read_sets
from pad_student.errors import EvaluationError
from pad_student.evaluation.answer_files import Question, read_questions, write_answers
from pad_student.evaluation.grading import Estimate, estimate, grades, load_grader, win
from pad_student.evaluation.guards import guards
from pad_student.evaluation.length_control import length_controlled
from pad_student.evaluation.pairs import pair, unique
from pad_student.on_policy.round_folder import fingerprint_so_far
from pad_student.storage import jsonl
from pad_student.storage.contents import digest_of, digest_of_set, model_digests
from pad_student.storage.jsonl import Appender, check_regular
from pad_student.storage.locks import DirectoryClaim
from pad_student.storage.run_directory import bind_file_to_settings, bind_to_settings, refuse_foreign
from pad_wire import Message, SampledSet
from pad_wire.chat import as_text


def grade(settings: GradeSettings) -> None:
    """Grade a model's responses; writes ``grades.jsonl`` (a line a prompt) and ``result.json``.

    Raises:
        OtherRun: for an output of other settings, weights or prompts.
        InUse: if another process evaluates into the same directory.
    """
    grader = load_grader(settings.grader)
    with DirectoryClaim(settings.out):
        prompts = _prompts(settings, settings.model)
        _bind(settings.out, settings, settings.model)
        sets = _responses(settings, settings.model, "responses", prompts)
        graded = {each.id: grades(grader, each.id, as_text(each.prompt), each.responses) for each in sets}
        means = {set_id: estimate(values).mean for set_id, values in graded.items()}
        rows = [{"id": set_id, "grades": values, "mean": means[set_id]} for set_id, values in graded.items()]
        (settings.out / "grades.jsonl").write_bytes(
            b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        )
        # Responses to one prompt are correlated: only prompts count as independent values.
        score = estimate(list(means.values()))
        found = guards([response for each in sets for response in each.responses])
        _report(settings.out, "gold score", score, {"model": settings.model, **found})


def win_rate(settings: WinRateSettings) -> None:
    """Compare two models' responses; writes ``comparisons.jsonl`` and ``result.json``.

    Raises:
        OtherRun: for an output of other settings, weights or prompts.
        EvaluationError: for two files that have different prompts under one id, and if nothing can be compared.
        InUse: if another process evaluates into the same directory.
    """
    with DirectoryClaim(settings.out):
        prompts = {model: _prompts(settings, model) for model in (settings.model, settings.baseline)}
        _bind(settings.out, settings, settings.model, settings.baseline)
        ours = _responses(settings, settings.model, "responses", prompts[settings.model])
        theirs = _responses(settings, settings.baseline, "baseline", prompts[settings.baseline])
        paired = pair(ours, theirs)
        teacher, rows = _compare(settings, settings.out / "comparisons.jsonl", paired.comparisons)
        wins: dict[str, list[float]] = defaultdict(list)
        for each, row in rows:
            wins[each.id.rpartition("#")[0]].append(win(row["preference"]))
        rate = estimate([estimate(values).mean for values in wins.values()])
        details = {
            "model": settings.model,
            "baseline": settings.baseline,
            "teacher": teacher,
            "judge_is_its_teacher": _is_its_teacher(teacher, settings.model),
            "mean_preference": estimate([row["preference"] for _, row in rows]).mean,
            "label_mass": estimate([row["label_mass"] for _, row in rows]).mean,
            "not_compared": paired.not_compared,
            "model_lengths": guards([each.responses[0] for each, _ in rows]),
            "baseline_lengths": guards([each.responses[1] for each, _ in rows]),
        }
        if settings.length_controlled:
            characters = [(len(each.responses[0].text), len(each.responses[1].text)) for each, _ in rows]
            fit = length_controlled([row["preference"] for _, row in rows], characters)
            details["length_controlled_win_rate"] = fit.win_rate
            details["length_weight"] = fit.length_weight
            print(f"length-controlled win rate {fit.win_rate:.4f}")
        if any(paired.not_compared.values()):
            counts = ", ".join(f"{count} {what}" for what, count in paired.not_compared.items() if count)
            closing_line(f"{settings.out}: not compared: {counts}")
        if details["judge_is_its_teacher"]:
            closing_line(f"{settings.model} was trained by the service that judged it; --judge URL asks another")
        _report(settings.out, "win rate", rate, details)


def answers(settings: AnswerSettings) -> None:
    """Answer a benchmark's questions turn by turn, and write the answers in its own format.

    Raises:
        OtherRun: for an output of other settings or weights, or with another question under an id.
        QuestionsError: the question file has another form.
    """
    from pad_student.sampling.generate import load_student

    questions = read_questions(settings.benchmark, settings.questions, settings.temperature)
    _bind_answers(settings)
    student = load_student(settings.model, template=template_options(settings), allow=settings.allow)
    replies: dict[str, list[str]] = {question.id: [] for question in questions}
    empty = 0
    for turn in range(max(len(question.turns) for question in questions)):
        path = _turn_file(settings.out, turn)
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


def _prompts(settings: GradeSettings | WinRateSettings, model: str) -> list[PromptLine]:
    """The prompts to sample for; none for a file of response sets."""
    if model.endswith(".jsonl"):
        return []
    if settings.prompts is None:
        raise EvaluationError(f"to sample from {model}, give --prompts")
    return prompts_of(settings.prompts, settings, model)


def _responses(
    settings: GradeSettings | WinRateSettings, model: str, name: str, prompts: list[PromptLine]
) -> list[SampledSet]:
    """Response sets from a file, or sampled from a model: one to each prompt of this call alone."""
    if model.endswith(".jsonl"):
        return unique(model, (each for each, _ in read_sets(Path(model))))
    path = settings.out / f"{name}.jsonl"
    how = SamplingOptions.of(settings)
    skipped = sample_into(path, prompts, model, how)
    if skipped:
        closing_line(f"{path}: of {model}{skipped_note(skipped)}")
    ids = {each.id for each in prompts}
    return unique(str(path), (each for each in jsonl.read(path, SampledSet) if each.id in ids))


def _is_its_teacher(judge: str | None, model: str) -> bool | None:
    """Whether the model was distilled from the service that judges; None if its directory does not say."""
    trained_by = fingerprint_so_far(Path(model) / "rounds")
    return trained_by == judge if trained_by and judge else None


def _compare(
    settings: WinRateSettings, path: Path, comparisons: list[SampledSet]
) -> tuple[str | None, list[tuple[SampledSet, dict[str, Any]]]]:
    """Have the teacher compare what ``path`` does not hold yet; the fingerprint, and each comparison with its row."""
    contents = {each.id: digest_of([each.id, digest_of_set(each)]) for each in comparisons}
    with Appender(path, key="content") as rows:
        first = next(iter(path.read_bytes().splitlines()), None)
        fingerprint = orjson.loads(first)["teacher"] if first else None
        missing = [each for each in comparisons if contents[each.id] not in rows.held]
        if missing:
            with (
                connect(settings, fingerprint) as teacher,
                progress(total=len(comparisons), done=len(comparisons) - len(missing), unit="comparisons") as bar,
            ):
                teacher.model()
                for each in teacher.selection(missing, form="pairwise", orders="both", distinct=False):
                    rows.append(
                        {
                            "content": contents[each.id],
                            "id": each.id,
                            "preference": each.responses[0].selection_probability,
                            "label_mass": each.label_mass,
                            "teacher": teacher.fingerprint,
                        }
                    )
                    bar.update()
                fingerprint = teacher.fingerprint
    found = {row["content"]: row for row in map(orjson.loads, path.read_bytes().splitlines())}
    return fingerprint, [(each, found[contents[each.id]]) for each in comparisons]


def _turn(question: Question, replies: list[str]) -> PromptLine:
    """The conversation before the next reply; an empty reply becomes a space, since no message may be empty."""
    messages: list[Message] = []
    for turn, reply in zip(question.turns, replies, strict=False):
        messages += [Message(role="user", content=turn), Message(role="assistant", content=reply or " ")]
    return PromptLine(id=question.id, prompt=[*messages, Message(role="user", content=question.turns[len(replies)])])


def _bind(out: Path, settings: Settings, *models: str) -> None:
    """Refuse to continue another evaluation, whose responses would count as this one's."""
    asked = settings.model_dump(
        mode="json",
        exclude={*ServiceAccess.model_fields, "teacher", "judge", "out", "length_controlled", *WHICH_PROMPTS},
    )
    for what, model in zip(("model", "baseline"), models, strict=False):
        if not model.endswith(".jsonl"):
            asked |= {f"{what}_{name}": digest for name, digest in model_digests(model).items()}
    bind_to_settings(out / "settings.json", asked)


def _bind_answers(settings: AnswerSettings) -> None:
    """Bind the responses of the first turn, and so of all later ones, whose prompts hold them."""
    check_regular(settings.out)
    first = _turn_file(settings.out, 0)
    asked = settings.model_dump(mode="json", exclude={"out", "name", "questions"}) | model_digests(settings.model)
    bind_file_to_settings(first, asked)
    if not first.exists():
        refuse_foreign(settings.out, first)


def _turn_file(out: Path, turn: int) -> Path:
    """The responses to one turn of all questions."""
    return out.with_name(f"{out.name}.turn{turn + 1}.jsonl")


def _report(out: Path, what: str, value: Estimate, details: dict[str, Any]) -> None:
    result = {what.replace(" ", "_"): value.mean, "standard_error": value.standard_error, "n": value.n, **details}
    (out / "result.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    error = "" if value.standard_error is None else f" ± {value.standard_error:.4f}"
    print(f"{what} {value.mean:.4f}{error} over {value.n} prompts")
    closing_line(f"{out / 'result.json'}: written")


# pyright: standard
