"""The commands of pad-student: settings, the module that runs each, the setting without a flag, and examples."""

from typing import NamedTuple

from pad_settings.loader import Program
from pad_student.commands.settings import (
    AnswerSettings,
    AuditSettings,
    ChatSettings,
    CompareSettings,
    CompletionSettings,
    DistillSettings,
    GradeSettings,
    InitSettings,
    MergeSettings,
    ReportSettings,
    SampleSettings,
    ScoreSettings,
    Settings,
    TrainingSettings,
    TrainSettings,
    WinRateSettings,
    training_arguments,
)

ENV_PREFIX = "PAD_STUDENT_"
# Values for a file of settings, in the place of those that have no default.
SAMPLES = {
    "model": "path/to/student",
    "teacher": "http://127.0.0.1:8010",
    "prompts": "prompts.jsonl",
    "sets": "sets.jsonl",
    "scored": "scored.jsonl",
    "output_dir": "runs/student",
    "out": "runs/out",
    "grader": "grade.py:grade",
    "baseline": "path/to/baseline",
    "benchmark": "alpaca-eval",
    "questions": "alpaca_eval.json",
}


class Command(NamedTuple):
    """A command's settings, and the module and function that run it; the module is imported only then."""

    settings: type[Settings]
    module: str
    function: str = "run"
    positional: str | None = None
    examples: tuple[str, ...] = ()
    also_set: tuple[str, ...] = ()


COMMANDS = {
    "init": Command(
        InitSettings,
        "pad_student.commands.init",
        examples=("pad-student init distill.yaml", "pad-student init train.yaml --command train"),
    ),
    "audit": Command(
        AuditSettings,
        "pad_student.commands.audit",
        examples=("pad-student audit --teacher http://127.0.0.1:8010 --out audit",),
    ),
    "sample": Command(
        SampleSettings,
        "pad_student.commands.sample",
        positional="model",
        examples=("pad-student sample path/to/student --prompts prompts.jsonl --out sets.jsonl -n 4",),
    ),
    "score": Command(
        ScoreSettings,
        "pad_student.commands.score",
        examples=("pad-student score --teacher http://127.0.0.1:8010 --sets sets.jsonl --out scored.jsonl",),
    ),
    "train": Command(
        TrainSettings,
        "pad_student.commands.train",
        positional="model",
        examples=("pad-student train path/to/student --scored scored.jsonl --out runs/student --lora 16",),
    ),
    "distill": Command(
        DistillSettings,
        "pad_student.commands.distill",
        positional="config",
        examples=(
            "pad-student init distill.yaml",
            "pad-student distill distill.yaml",
            "pad-student distill distill.yaml --learning-rate 1e-6 --save-steps 50",
        ),
    ),
    "chat": Command(
        ChatSettings,
        "pad_student.commands.chat",
        positional="model",
        examples=("pad-student chat runs/student", "echo 'count to five' | pad-student chat runs/student"),
    ),
    "merge": Command(
        MergeSettings,
        "pad_student.commands.merge",
        positional="model",
        examples=("pad-student merge runs/student --out runs/student-merged",),
    ),
    "completion": Command(
        CompletionSettings,
        "pad_student.commands.completion",
        examples=('eval "$(pad-student completion bash)"',),
    ),
    "report": Command(
        ReportSettings,
        "pad_student.commands.report",
        examples=("pad-student report runs/student", "pad-student report --serve runs"),
    ),
    "eval grade": Command(
        GradeSettings,
        "pad_student.commands.evaluate",
        "grade",
        "model",
        ("pad-student eval grade runs/student --grader grade.py:grade --prompts heldout.jsonl --out runs/grade",),
    ),
    "eval win-rate": Command(
        WinRateSettings,
        "pad_student.commands.evaluate",
        "win_rate",
        "model",
        (
            "pad-student eval win-rate runs/student --baseline path/to/student --prompts heldout.jsonl \\",
            "    --teacher http://127.0.0.1:8010 --out runs/win-rate",
        ),
        also_set=("teacher",),
    ),
    "eval compare": Command(
        CompareSettings,
        "pad_student.commands.compare",
        examples=("pad-student eval compare runs/grade-before runs/grade-after",),
    ),
    "eval answers": Command(
        AnswerSettings,
        "pad_student.commands.evaluate",
        "answers",
        "model",
        (
            "pad-student eval answers runs/student --benchmark alpaca-eval --questions alpaca_eval.json \\",
            "    --out answers.json",
        ),
    ),
}


def program_of(settings: type[Settings], name: str | None = None) -> Program[Settings]:
    """How the settings of a command are given."""
    command, found = next((each, this) for each, this in COMMANDS.items() if this.settings is settings)
    trains = issubclass(settings, TrainingSettings)
    return Program(
        name or f"pad-student {command}",
        settings,
        ENV_PREFIX,
        found.positional,
        takes="trainer" if trains else None,
        takes_all=trains,
        further=training_arguments if trains else tuple,
        examples=found.examples,
        samples=SAMPLES,
        also_set=found.also_set,
    )
