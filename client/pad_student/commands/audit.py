"""``pad-student audit``: sets of known quality in; out come the signal to trust and the settings that use it."""

from collections.abc import Sequence

import orjson

from pad_student.commands.common import closing_line, connect
from pad_student.commands.settings import AuditSettings
from pad_student.errors import BelowRequired
from pad_student.evaluation.audit.audit import Audit, audit
from pad_student.evaluation.audit.known_sets import KnownSet, shipped_sets, users_sets
from pad_student.evaluation.audit.words import report, settings_yaml
from pad_wire.atomic import write_atomically

SECONDS_PER_MINUTE = 60.0


def run(settings: AuditSettings) -> None:
    """Audit each teacher, print what was found, and write ``audit.json`` and ``recommended.yaml``.

    Raises:
        JsonLinesError: for a line of the sets that is not a response set.
        EvaluationError: for sets that cannot be compared.
        TeacherError: if a teacher does not answer, or refuses.
        BelowRequired: if ``require`` is given and a teacher's best signal does not reach it.
    """
    sets = users_sets(settings.sets) if settings.sets else shipped_sets()
    settings.out.mkdir(parents=True, exist_ok=True)
    audits = [_audit_one(url, sets, settings) for url in settings.teacher]
    print(report(audits))
    _write(settings, audits)
    _check(settings.require, audits)


def _audit_one(url: str, sets: Sequence[KnownSet], settings: AuditSettings) -> Audit:
    with connect(settings.model_copy(update={"teacher": [url]})) as teacher:
        return audit(teacher, sets, settings.minutes * SECONDS_PER_MINUTE, lambda doing: closing_line(f"{doing} …"))


def _write(settings: AuditSettings, audits: Sequence[Audit]) -> None:
    best = max(audits, key=lambda each: each.recommendation.win_rate.mean)
    teachers = [{"url": url, **each.as_json()} for url, each in zip(settings.teacher, audits, strict=True)]
    found = orjson.dumps({"teachers": teachers}, option=orjson.OPT_INDENT_2)
    recommended = settings.out / "recommended.yaml"
    write_atomically(settings.out / "audit.json", found + b"\n")
    write_atomically(recommended, settings_yaml(best).encode())
    closing_line(f"{settings.out / 'audit.json'}; the lines of {recommended} go into the settings of distill")


def _check(require: float | None, audits: Sequence[Audit]) -> None:
    for each in audits:
        reached = each.recommendation.win_rate.mean
        if require is not None and reached < require:
            raise BelowRequired(
                f"{each.teacher['model']}: the better response wins {reached:.3f} of pairs; {require:g} is required"
            )
