"""The settings of each command. Flags override PAD_STUDENT_* variables, then YAML, then the defaults here."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg, CliSuppress

from pad_student.commands.setting_groups import (
    ConversationSettings,
    DryRun,
    Positive,
    PromptData,
    ReferenceAccess,
    SamplingSettings,
    ServiceAccess,
    Settings,
    TeacherAccess,
    Temperature,
    Urls,
)
from pad_student.preference.settings import (
    MethodSettings,
    OnPolicySettings,
    PreferenceSettings,
    QuestionSettings,
    RefusalSettings,
)

Command = Literal["distill", "train", "sample", "score", "audit", "eval grade", "eval win-rate", "eval answers"]


class SampleSettings(SamplingSettings, PromptData, RefusalSettings):
    """Sample responses from a student; a rerun continues where its output ends."""

    model: str
    """The student: a directory or a hub id."""
    prompts: Path
    """The prompts: a file (JSON lines, JSON, parquet, CSV, Arrow), a directory, or a dataset on the Hub."""
    out: Path
    """The response sets, as JSON lines."""
    n: Positive = 4
    """Responses to each prompt."""


class ScoreSettings(TeacherAccess, DryRun, QuestionSettings, RefusalSettings):
    """Have a teacher score response sets; a rerun continues where its output ends."""

    sets: Path
    """The response sets: a file (JSON lines, JSON, parquet, CSV), a directory, or a dataset on the Hub."""
    out: Path
    """The scored sets, as JSON lines."""
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    """Weight that the selection probability will have in the reward; 0 asks the teacher no questions."""
    unconditional: bool = False
    """Ask for each response's log-likelihood after an empty request too, which normalization relative needs."""
    truncate: bool = False
    """Cut responses that exceed the teacher's context instead of stopping."""


class AuditSettings(TeacherAccess):
    """Measure on sets of known quality which of a teacher's signals to trust, and recommend settings."""

    teacher: Urls
    """The teacher's URL; several, with commas between, are audited side by side."""
    sets: Path | None = None
    """Response sets of known quality, best response first, as JSON lines; by default the ones that are shipped."""
    out: Path = Path("audit")
    """The directory for audit.json and recommended.yaml."""
    minutes: Annotated[float, Field(gt=0)] = 2.0
    """Approximate time for each teacher; with less of it, choice is asked about fewer sets."""
    require: Annotated[float, Field(ge=0, le=1)] | None = None
    """Fail if the better response wins fewer pairs than this, by the recommended signal."""


class GradeSettings(SamplingSettings, PromptData):
    """Grade a model's responses with a rule: the gold score."""

    grader: str
    """The rule, as path/to/file.py:function or module:function; function(prompt, response) gives a number."""
    model: str
    """The student (a directory or a hub id), or a .jsonl file of its response sets."""
    prompts: Path | None = None
    """The prompts: a file, a directory or a dataset on the Hub; not needed with response sets."""
    out: Path
    """The directory for responses, grades by prompt and result.json."""
    n: Positive = 4
    """Responses to each prompt."""


class WinRateSettings(SamplingSettings, ServiceAccess, PromptData):
    """Let a teacher compare a model's responses with a baseline's, in both orders: the win rate."""

    teacher: Urls | None = None
    """The teacher's URL, which judges unless judge is given."""
    judge: Urls | None = None
    """The URL of another service that judges. A teacher judges students that it trained by its own taste."""
    model: str
    """The student (a directory or a hub id), or a .jsonl file of its response sets."""
    baseline: str
    """The model to compare with: a directory, a hub id, or a .jsonl file of response sets."""
    prompts: Path | None = None
    """The prompts: a file, a directory or a dataset on the Hub; not needed with two files of response sets."""
    out: Path
    """The directory for responses, comparisons by prompt and result.json."""
    n: Positive = 1
    """Responses to each prompt, compared one to one."""
    length_controlled: bool = False
    """Say too what the win rate would be if the responses had the same length, as AlpacaEval 2 does."""

    @model_validator(mode="after")
    def _somebody_judges(self) -> Self:
        if not (self.judge or self.teacher):
            raise ValueError("give --teacher or --judge: one of them compares the responses")
        return self

    @property
    def urls(self) -> list[str]:
        """The judge's."""
        return self.judge or self.teacher or []


class CompareSettings(Settings):
    """Compare two graded models, prompt by prompt: the gain, its interval, and the guards of both."""

    a: CliPositionalArg[str]
    """The directory of eval grade for the one model; several with commas between are seeds of one method."""
    b: CliPositionalArg[str]
    """The same for the other model, seed by seed."""
    out: Path | None = None
    """A JSON file for the comparison."""


class AnswerSettings(SamplingSettings):
    """Answer a benchmark's questions in the file format that its own judge reads."""

    benchmark: Literal["alpaca-eval", "arena-hard", "mt-bench"]
    """AlpacaEval 2, Arena-Hard v2 or MT-Bench."""
    model: str
    """The model: a directory or a hub id."""
    questions: Path
    """The benchmark's own question file: alpaca_eval.json, or its question.jsonl."""
    out: Path
    """The answer file. Responses are kept next to it, and a rerun continues with them."""
    name: str | None = None
    """The model's name in the answers; by default the last part of its path."""
    temperature: Temperature = 0.0
    """Sampling temperature; MT-Bench sets its own for each category."""
    max_new_tokens: Positive = 2048
    """Longest answer in tokens; longer ones are cut."""


class MergeSettings(Settings):
    """Merge an adapter (LoRA) into its base model, and save one plain model."""

    model: str
    """The directory of the adapter."""
    out: Path
    """The new directory of the merged model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the saved weights; auto: that of the base model."""


class ChatSettings(ConversationSettings):
    """Talk to a model: each line of standard input is a turn, and its answer streams to standard output."""

    model: str
    """The model or adapter: a directory or a hub id."""
    system: str | None = None
    """System prompt of each conversation."""
    temperature: Temperature = 0.8
    """Sampling temperature; 0 takes the most likely token."""
    max_new_tokens: Positive = 512
    """Longest answer in tokens; longer ones are cut."""
    seed: int = 0
    """The same seed and the same lines give the same answers."""


class CompletionSettings(Settings):
    """Print a script that completes commands and flags in a shell."""

    shell: CliPositionalArg[Literal["bash", "zsh"]]
    """The shell."""


class InitSettings(Settings):
    """Write a file with every setting of a command, each with its description and default."""

    file: CliPositionalArg[Path] = Path("distill.yaml")
    """The new file; one that is there already is left as it is."""
    command: Command = "distill"
    """The command whose settings it holds."""


class ReportSettings(Settings):
    """Write one HTML page about a run of train or distill, or show the runs below a folder while they train.

    The written page opens without network or server.
    """

    run: CliPositionalArg[Path | None] = None
    """The run's output directory."""
    out: Path | None = None
    """The page; by default report.html in the run's directory."""
    serve: Path | None = None
    """Write nothing, and serve a page that follows the runs below this folder."""
    host: str = "127.0.0.1"
    """The address to serve on; who reaches it can read the runs, by default this machine alone."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8020
    """The port to serve on; 0 for a free one."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "ReportSettings":
        if (self.run is None) == (self.serve is None):
            raise ValueError("give the output directory of a run, or --serve and a folder of runs")
        return self


class TrainingSettings(ConversationSettings, DryRun, MethodSettings, PreferenceSettings, RefusalSettings):
    """The settings of every command that trains.

    Any other field of transformers.TrainingArguments is a setting too, in YAML (save_steps: 50) or as a flag
    (--save-steps 50).
    """

    model: str
    """The student: a directory or a hub id."""
    seed: int = 0
    """Seed of sampling, prompt order and initialisation."""
    max_steps: Positive | None = None
    """Optimiser steps; by default those of num_train_epochs passes over the prompts (1 unless set)."""
    prompts_per_step: Positive = 32
    """Prompts in one optimiser step."""
    report_prompts: Annotated[int, Field(ge=0)] = 4
    """Prompts for which the report shows samples from before and after training."""
    eval_prompts: Path | None = None
    """Held-out prompts, in any form that prompts have, or held-out scored sets: every eval_steps steps (20) the
    student is judged on them, and the best checkpoint is kept."""
    eval_grader: str | None = None
    """A rule that grades the answers to held-out prompts too, as path/to/file.py:function or module:function."""
    early_stopping: Positive | None = None
    """Evaluations in a row without a better one, after which the run ends."""
    lora: Positive | dict[str, Any] | None = None
    """Train an adapter of this rank, or with these fields of peft.LoraConfig."""
    trainer: CliSuppress[dict[str, Any]] = Field({})
    """Other fields of transformers.TrainingArguments."""

    @model_validator(mode="before")
    @classmethod
    def _gather_trainer_fields(cls, values: Any) -> Any:
        """Move fields of TrainingArguments that are no fields here into ``trainer``."""
        if not isinstance(values, dict):
            return values
        others = values.keys() - cls.model_fields.keys()
        moved = {name: _number(values[name]) for name in others and others & training_arguments()}
        own = {name: value for name, value in values.items() if name not in moved}
        return {**own, "trainer": {**own.get("trainer", {}), **moved}}


class TrainSettings(TrainingSettings):
    """Train a student from scored sets; no teacher is needed.

    Any other field of transformers.TrainingArguments is a setting too, in YAML (save_steps: 50) or as a flag
    (--save-steps 50).
    """

    scored: Path
    """The scored sets, as JSON lines."""
    out: Path
    """The directory for the trained student, its checkpoints and logs."""


class DistillSettings(TrainingSettings, ReferenceAccess, PromptData, OnPolicySettings, QuestionSettings):
    """Sample, score and train in rounds, from a YAML file and flags.

    Any other field of transformers.TrainingArguments is a setting too, in YAML (save_steps: 50) or as a flag
    (--save-steps 50).
    """

    prompts: Path
    """The prompts: a file (JSON lines, JSON, parquet, CSV, Arrow), a directory, or a dataset on the Hub."""
    output_dir: Path
    """The directory for the trained student, its checkpoints and logs."""

    @model_validator(mode="after")
    def _reference_is_for_adpa(self) -> Self:
        if self.reference and self.method != "adpa":
            raise ValueError(f"reference is for method adpa: leave it out with {self.method}")
        return self


def training_arguments() -> set[str]:
    """Names of the fields of transformers.TrainingArguments that are settings too."""
    # Imported only if such a field is given: the import takes seconds, and --help must not.
    from transformers import TrainingArguments

    # No hub_token: checkpoints hold these fields, and push_to_hub uploads them. A token belongs in HF_TOKEN.
    return {field.name for field in fields(TrainingArguments)} - {"output_dir", "hub_token"}


def _number(value: Any) -> Any:
    """A number, if text is one: PyYAML reads 1e-6 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


# pyright: standard
