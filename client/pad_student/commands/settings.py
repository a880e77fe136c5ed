"""What each command can be told: flags over PAD_STUDENT_* variables over YAML over the defaults here."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import CliPositionalArg, CliSuppress, NoDecode

from pad_student.preference.settings import OnPolicySettings, PreferenceSettings, QuestionSettings

Positive = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0)]


def _comma_separated(given: Any) -> Any:
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


Urls = Annotated[list[str], NoDecode, Field(min_length=1), BeforeValidator(_comma_separated)]


class Settings(BaseModel):
    """One command's settings; a name that is none of them is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TeacherAccess(Settings):
    """Where the teacher is, and as whom to ask it."""

    teacher: Urls
    """The teacher's URL, as in http://127.0.0.1:8010; URLs of replicas, with commas between, share the work."""
    key: SecretStr | None = None
    """The teacher's key; better given as PAD_STUDENT_KEY, since other users can see a command line."""
    job: str | None = None
    """The name that the teacher counts this work under."""


class Sampled(Settings):
    """How responses are sampled."""

    temperature: Temperature = 0.8
    """Sampling temperature; 0 takes the most likely token, and one response."""
    max_new_tokens: Positive = 1024
    """Where a response is cut. Prompts that leave no room for as many in the context are skipped."""
    batch_size: Positive = 16
    """Prompts sampled at once."""
    seed: int = 0
    """The same seed gives the same responses, also when continued."""


class PromptData(Settings):
    """Which prompts are taken from the data."""

    subset: str | None = None
    """The subset (configuration) of a dataset of the Hub that has several."""
    split: str | None = None
    """The split of a directory or a dataset of the Hub; by default its only one, or train."""
    column: str | None = None
    """The column that holds the prompt, as text or messages; by default prompt, messages, instruction, or what chosen
    and rejected share, whichever there is first."""
    system: str | None = None
    """A system prompt, put in front of prompts that have none of their own."""
    max_prompt_tokens: Positive | None = None
    """Longer prompts are dropped, and named; counted with the student's tokenizer and chat template."""
    max_prompt_characters: Positive | None = None
    """Longer prompts are dropped, and named."""


class SampleSettings(Sampled, PromptData):
    """Sample responses from a student; a rerun continues where its output ends."""

    model: str
    """The student: a directory or a hub id."""
    prompts: Path
    """The prompts: a file (JSON lines, JSON, parquet, CSV, Arrow), a directory, or a dataset of the Hub."""
    out: Path
    """The response sets, as JSON lines."""
    n: Positive = 4
    """Responses a prompt."""


class ScoreSettings(TeacherAccess, QuestionSettings):
    """Have a teacher score response sets; a rerun continues where its output ends."""

    sets: Path
    """The response sets, as JSON lines."""
    out: Path
    """The scored sets, as JSON lines."""
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    """The weight that the selection probability is to have; at 0 its questions are not asked."""
    truncate: bool = False
    """Cut responses that exceed the teacher's context, instead of stopping."""


class GradeSettings(Sampled, PromptData):
    """Grade a model's responses with a rule: gold score."""

    grader: str
    """The rule, as path/to/file.py:function or module:function; function(prompt, response) gives a number."""
    model: str
    """The student (a directory or a hub id), or a .jsonl file of its response sets."""
    prompts: Path | None = None
    """The prompts: a file, a directory or a dataset of the Hub; not needed with response sets."""
    out: Path
    """The directory for responses, grades by prompt and result.json."""
    n: Positive = 4
    """Responses a prompt."""


class WinRateSettings(Sampled, TeacherAccess, PromptData):
    """Let a teacher compare a model's responses with a baseline's, in both orders: win rate."""

    model: str
    """The student (a directory or a hub id), or a .jsonl file of its response sets."""
    baseline: str
    """What it is compared with: a model or a .jsonl file of response sets."""
    prompts: Path | None = None
    """The prompts: a file, a directory or a dataset of the Hub; not needed with two files of response sets."""
    out: Path
    """The directory for responses, comparisons by prompt and result.json."""
    n: Positive = 1
    """Responses a prompt, compared one to one."""


class AnswerSettings(Sampled):
    """Answer a benchmark's questions in the file format that its own judge reads."""

    benchmark: Literal["alpaca-eval", "arena-hard", "mt-bench"]
    """AlpacaEval 2, Arena-Hard v2 or MT-Bench."""
    model: str
    """The model: a directory or a hub id."""
    questions: Path
    """The benchmark's own question file: alpaca_eval.json, or its question.jsonl."""
    out: Path
    """The answer file. Responses are kept beside it, and a rerun continues with them."""
    name: str | None = None
    """The model's name in the answers; by default the last part of its path."""
    temperature: Temperature = 0.0
    """Sampling temperature; MT-Bench has its own for each category."""
    max_new_tokens: Positive = 2048
    """Where an answer is cut."""


class ReportSettings(Settings):
    """Write one HTML page about a run of train or distill, which needs no network and no server."""

    run: CliPositionalArg[Path]
    """The run's output directory."""
    out: Path | None = None
    """The page; by default report.html in the run's directory."""


class Training(Settings, PreferenceSettings):
    """What training from scores needs, wherever the scores come from.

    Any other field of transformers.TrainingArguments may stand beside these in YAML (save_steps: 50), and be given as
    a flag (--save-steps 50).
    """

    model: str
    """The student: a directory or a hub id."""
    seed: int = 0
    """Fixes sampling, order and initialisation."""
    max_steps: Positive | None = None
    """Optimiser steps; without it, one pass over the prompts (or num_train_epochs of them)."""
    prompts_per_step: Positive = 32
    """Prompts whose losses make one optimiser step."""
    report_prompts: Annotated[int, Field(ge=0)] = 4
    """Prompts that are answered before and after training, for the report."""
    lora: Positive | dict[str, Any] | None = None
    """Train an adapter: its rank, or fields of peft.LoraConfig."""
    trainer: CliSuppress[dict[str, Any]] = {}
    """Other fields of transformers.TrainingArguments."""

    @model_validator(mode="before")
    @classmethod
    def _gather_trainer_fields(cls, values: Any) -> Any:
        """Move what is not a field here into ``trainer``, if it is one of TrainingArguments'."""
        if not isinstance(values, dict):
            return values
        others = values.keys() - cls.model_fields.keys()
        moved = {name: _number(values[name]) for name in others and others & training_arguments()}
        own = {name: value for name, value in values.items() if name not in moved}
        return {**own, "trainer": {**own.get("trainer", {}), **moved}}


class TrainSettings(Training):
    """Train a student from scored sets; no teacher is needed.

    Any other field of transformers.TrainingArguments may stand beside these in YAML (save_steps: 50), and be given as
    a flag (--save-steps 50).
    """

    scored: Path
    """The scored sets, as JSON lines."""
    out: Path
    """The directory for the trained student, its checkpoints and logs."""


class DistillSettings(Training, TeacherAccess, PromptData, OnPolicySettings, QuestionSettings):
    """Sample, score and train in rounds, from a YAML file and flags.

    Any other field of transformers.TrainingArguments may stand beside these in YAML (save_steps: 50), and be given as
    a flag (--save-steps 50).
    """

    prompts: Path
    """The prompts: a file (JSON lines, JSON, parquet, CSV, Arrow), a directory, or a dataset of the Hub."""
    output_dir: Path
    """The directory for the trained student, its checkpoints and logs."""


def training_arguments() -> set[str]:
    """Names of the fields of transformers.TrainingArguments that may be given."""
    # Imported only where such a field is given: it takes seconds, which --help must not.
    from transformers import TrainingArguments

    # Checkpoints hold these fields, and push_to_hub uploads them: a token belongs in HF_TOKEN.
    return {field.name for field in fields(TrainingArguments)} - {"output_dir", "hub_token"}


def _number(value: Any) -> Any:
    """PyYAML takes 1e-6 for text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
