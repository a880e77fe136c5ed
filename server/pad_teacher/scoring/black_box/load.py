"""Finds the upstream that the settings name, and asks it the golden question: no weights are read."""

from pathlib import Path

import structlog

from pad_teacher.engines.openai.engine import OpenAIEngine
from pad_teacher.engines.openai.spending import Spending
from pad_teacher.engines.openai.upstream import Address, Upstream
from pad_teacher.errors import CannotServe
from pad_teacher.scoring.black_box.estimates import VoteRule
from pad_teacher.scoring.black_box.golden import find_way
from pad_teacher.scoring.black_box.selection import plan_score, plan_selection
from pad_teacher.scoring.black_box.teacher import BlackBoxTeacher, fingerprint
from pad_teacher.settings import ServeSettings
from pad_wire import TeacherId
from pad_wire.question import PLAIN, QuestionForm

log = structlog.get_logger()


def load_black_box(settings: ServeSettings, question: QuestionForm | None) -> BlackBoxTeacher:
    """A teacher behind the API that the settings name, once it has passed the golden check.

    Without ``question`` it is asked in the default form, or plainly if the API does not continue an answer.

    Raises:
        CannotServe: if the API cannot be asked.
        GoldenMismatch: if its answers mean nothing.
    """
    url, model = settings.upstream or "", settings.upstream_model or ""
    address = Address(url, model, settings.upstream_timeout, settings.upstream_answer_tokens)
    spending = Spending(settings.upstream_tokens_per_day, settings.data)
    key = read_key(settings.upstream_key_file) if settings.upstream_key_file else None
    upstream = Upstream(address, key, spending)
    engine = OpenAIEngine(upstream, settings.upstream_concurrency)
    try:
        log.info("starting", phase="golden question", upstream=url, model=model)
        way = find_way(upstream, [question] if question else [QuestionForm(), PLAIN])
    except BaseException:
        engine.close()
        raise
    rule = VoteRule(settings.upstream_votes, settings.upstream_vote_width)
    mark = fingerprint(engine, way.form, way.estimator, rule)
    plans = {"selection": plan_selection, "score": plan_score}
    identity = TeacherId(model=settings.name or settings.model.rstrip("/").rpartition("/")[2], fingerprint=mark)
    return BlackBoxTeacher(identity, engine, way.form, way.estimator, upstream.top, rule, plans)


def read_key(path: Path) -> str:
    """The key in a file: its one line.

    Raises:
        CannotServe: if the file cannot be read, or holds no key; the message repeats nothing of it.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
    except OSError as error:
        raise CannotServe(f"--upstream-key-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1:
        raise CannotServe(f"--upstream-key-file {path} must hold the key and nothing else, on one line")
    return lines[0]
