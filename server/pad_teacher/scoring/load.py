"""Chooses and loads the engine that the settings name, and checks it: the one place that reads weights."""

from pathlib import Path
from typing import Any

import structlog
import yaml
from pydantic import ValidationError

from pad_teacher.engines.base import Engine
from pad_teacher.errors import CannotServe
from pad_teacher.scoring import golden_check
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.settings import ServeSettings
from pad_torch.declared_ends import saved_ends
from pad_torch.own_tokenizer import load_tokenizer
from pad_wire.chat import ChatEncoder, TemplateOptions
from pad_wire.model_names import is_missing_directory
from pad_wire.question import QuestionForm

log = structlog.get_logger()


def load(settings: ServeSettings) -> Teacher:
    """Load model and tokenizer, and run the golden check.

    Raises:
        CannotServe: if the model is not there, its tokenizer has no usable chat template, or no engine can score
            with it.
        BadOption: if an argument for vLLM cannot be given.
        GoldenMismatch: if the engine's numbers are not the model's.
    """
    try:
        return _load(settings)
    except (OSError, ValueError) as error:  # of the file system, transformers, the Hub, or an engine's own checks
        raise CannotServe(str(error)) from error


def _load(settings: ServeSettings) -> Teacher:
    if is_missing_directory(settings.model):
        raise FileNotFoundError(f"{settings.model}: no such model directory")
    tokenizer = load_tokenizer(settings.model, revision=settings.revision, allow=settings.allow)
    options = TemplateOptions(settings.date, settings.template_args, settings.chat_template)
    encoder = ChatEncoder.of(tokenizer, options, saved_ends(settings.model, settings.revision))
    if encoder.place.note:
        log.warning("unusual chat template", note=encoder.place.note)
    question = read_question(settings.question) if settings.question else QuestionForm()
    engine = _engine(settings)
    name = settings.name or Path(settings.model.rstrip("/")).name
    try:
        teacher = Teacher.of(name, encoder, engine, question, settings.allow)
        difference = golden_check.check(teacher)
    except BaseException:
        engine.close()
        raise
    log.info("golden score passed", largest_difference_nats=difference, engine=engine.name, dtype=engine.dtype)
    return teacher


def read_question(path: Path) -> QuestionForm:
    """A form of the question from a YAML file: ``system``, ``user``, ``option``, ``separator``, ``answer``.

    Raises:
        CannotServe: naming the file and the first thing that is wrong in it.
    """
    try:
        return QuestionForm.model_validate(yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CannotServe(f"--question {path}: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or "the file"
        raise CannotServe(f"--question {path}: {name}: {first['msg'].removeprefix('Value error, ')}") from None


def _engine(settings: ServeSettings) -> Engine:
    """The engine that the settings name; each is imported only if it is used."""
    common: dict[str, Any] = {
        "revision": settings.revision,
        "dtype": settings.dtype,
        "max_context_tokens": settings.max_context_tokens,
    }
    match settings.engine:
        case "transformers":
            from pad_teacher.engines.embedded.engine import TransformersEngine

            return TransformersEngine.load(
                settings.model,
                device=settings.device,
                max_forward_tokens=settings.max_batch_tokens,
                allow=settings.allow,
                **common,
            )
        case "vllm":
            from pad_teacher.engines.vllm.engine import VllmEngine

            return VllmEngine.load(
                settings.model, max_batch_tokens=settings.max_batch_tokens, options=settings.vllm, **common
            )
