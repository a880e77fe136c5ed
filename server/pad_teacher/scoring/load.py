"""Chooses and loads the engine that the settings name, and checks it: the one place that reads weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from pad_settings.values import from_file
from pad_teacher.engines.base import Engine, Measured
from pad_teacher.engines.pair import PairEngine
from pad_teacher.errors import CannotServe
from pad_teacher.scoring import golden_check
from pad_teacher.scoring.teacher import AnyTeacher, Teacher
from pad_teacher.settings import ServeSettings
from pad_torch.declared_ends import saved_ends
from pad_torch.findings import refuse_unless_allowed
from pad_torch.own_tokenizer import load_tokenizer
from pad_wire.chat import ChatEncoder, TemplateOptions
from pad_wire.model_names import is_missing_directory
from pad_wire.question import PLAIN, QuestionForm
from pad_wire.rendering.witness import findings
from pad_wire.tokenizer_digest import why_not_same_tokenizer

log = structlog.get_logger()

_WHY_PLAIN = (
    "this tokenizer or template cannot begin the default question's answer; many models choose worse if asked"
    " plainly: measure it with pad-student audit, and try another wording with --question FILE"
)


def load(settings: ServeSettings) -> AnyTeacher:
    """Load model and tokenizer, or find the upstream, and run the golden check.

    Raises:
        CannotServe: if the model is not there, its tokenizer has no usable chat template, or no engine can score
            with it.
        BadOption: if an argument for vLLM cannot be given.
        GoldenMismatch: if the engine's numbers are not the model's.
    """
    try:
        if settings.engine == "openai":
            from pad_teacher.scoring.black_box.load import load_black_box

            return load_black_box(settings, _question(settings))
        return _load(settings)
    except (OSError, ValueError) as error:  # of the file system, transformers, the Hub, or an engine's own checks
        raise CannotServe(str(error)) from error


def _load(settings: ServeSettings) -> Teacher:
    tokenizer = _tokenizer(settings, settings.model, settings.revision)
    if settings.reference:
        other = _tokenizer(settings, settings.reference, settings.reference_revision)
        if problem := why_not_same_tokenizer(tokenizer, other):
            raise CannotServe(f"--reference {settings.reference}: it needs the tokenizer of --model, and {problem}")
    options = TemplateOptions(settings.date, settings.template_args, settings.chat_template)
    encoder = ChatEncoder.of(tokenizer, options, saved_ends(settings.model, settings.revision))
    if encoder.place.note:
        log.warning("unusual chat template", note=encoder.place.note)
    for name, sentence in findings(encoder.template, encoder.place):
        refuse_unless_allowed(name, f"{settings.model}: {sentence}", settings.allow)
    question = _question(settings)
    log.info("starting", phase="weights", model=settings.model)
    engine = _engine(settings, settings.model, settings.revision)
    name = settings.name or _name_of(settings.model)
    try:
        teacher = Teacher.of(name, encoder, engine, question, settings.allow)
        if question is None and teacher.question == PLAIN:
            log.warning("plain question", reason=_WHY_PLAIN)
        teacher = _check(teacher)
        return _with_reference(settings, settings.reference, teacher) if settings.reference else teacher
    except BaseException:
        engine.close()
        raise


def _tokenizer(settings: ServeSettings, model: str, revision: str | None) -> Any:
    if is_missing_directory(model):
        raise FileNotFoundError(f"{model}: no such model directory")
    tokenizer = load_tokenizer(model, revision=revision, allow=settings.allow)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise CannotServe(f"{model}: a teacher needs a fast tokenizer, which has a tokenizer.json, and it has none")
    return tokenizer


def _with_reference(settings: ServeSettings, model: str, teacher: Teacher) -> Teacher:
    """The same teacher, and the ``model`` that it was aligned from, in one engine."""
    log.info("starting", phase="weights", model=model)
    engine = _engine(settings, model, settings.reference_revision)
    try:
        # Both read the conversation as the teacher's template renders it.
        reference = Teacher.of(_name_of(model), teacher.encoder, engine, teacher.question, settings.allow)
        _check(reference)
    except BaseException:
        engine.close()
        raise
    if isinstance(teacher.engine, Measured):
        teacher.engine.measure_memory()  # the reference has taken some of it
    pair = PairEngine(teacher.engine, engine)
    both = Teacher.of(
        teacher.id.model, teacher.encoder, pair, teacher.question, settings.allow, reference=reference.id
    )
    return replace(both, golden_difference_nats=teacher.golden_difference_nats)


def _name_of(model: str) -> str:
    return Path(model.rstrip("/")).name


def _check(teacher: Teacher) -> Teacher:
    engine = teacher.engine
    difference = golden_check.check(teacher, lambda done: log.info("starting", phase="golden score", done=done))
    log.info("golden score passed", largest_difference_nats=difference, engine=engine.name, dtype=engine.dtype)
    return replace(teacher, golden_difference_nats=difference)


def _question(settings: ServeSettings) -> QuestionForm | None:
    return read_question(settings.question) if settings.question else None


def read_question(path: Path) -> QuestionForm:
    """A form of the question from a YAML file: ``system``, ``user``, ``option``, ``separator``, ``answer``.

    Raises:
        CannotServe: naming the file and the first thing that is wrong in it.
    """
    try:
        return QuestionForm.model_validate(from_file(path) or {})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or "the file"
        raise CannotServe(f"--question {path}: {name}: {first['msg'].removeprefix('Value error, ')}") from None
    except OSError as error:
        raise CannotServe(f"--question {path}: {error.strerror}") from None
    except ValueError as error:
        raise CannotServe(f"--question {error}") from None


def _engine(settings: ServeSettings, model: str, revision: str | None) -> Engine:
    """The engine that the settings name, with a model; each is imported only if it is used."""
    common: dict[str, Any] = {
        "revision": revision,
        "dtype": settings.dtype,
        "max_context_tokens": settings.max_context_tokens,
        "allow": settings.allow,
    }
    match settings.engine:
        case "transformers":
            from pad_teacher.engines.embedded.engine import TransformersEngine

            return TransformersEngine.load(
                model,
                device=settings.device,
                max_forward_tokens=settings.max_batch_tokens,
                **common,
            )
        case "vllm":
            from pad_teacher.engines.vllm.engine import VllmEngine

            return VllmEngine.load(model, max_batch_tokens=settings.max_batch_tokens, options=settings.vllm, **common)
        case "openai":
            raise AssertionError  # load has taken it
