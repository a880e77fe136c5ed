"""``pad-student score``: response sets in, scored sets out."""

from collections.abc import Iterator, Mapping
from typing import Any

from pad_student.commands.common import closing_line, connect, progress
from pad_student.commands.settings import ScoreSettings, TeacherAccess
from pad_student.data.response_sets import ScoredLine, read_sets
from pad_student.errors import JsonLinesError, OtherRun
from pad_student.preference.settings import RefusalSettings
from pad_student.storage import jsonl
from pad_student.storage.contents import digest_of_set
from pad_student.storage.jsonl import Appender
from pad_student.storage.run_directory import bind_file_to_settings, check_file_settings
from pad_student.teacher.checks.capabilities import checked_model
from pad_student.teacher.options import ScoreOptions
from pad_student.teacher.requests.refusals import Refusals
from pad_wire import SampledSet

# These may change between starts: contents tell which sets are scored, and each response says whether it was cut.
FREE = {
    "dry_run",
    "out",
    "sets",
    "truncate",
    *RefusalSettings.__dataclass_fields__,
    *TeacherAccess.model_fields,
}


def run(settings: ScoreSettings) -> None:
    """Have the teacher score the sets that the output does not hold yet.

    Raises:
        JsonLinesError: for a bad line in either file.
        OtherRun: for an output of other settings, or with other texts under the id of a set.
        TooManyRefused: the teacher refuses more sets than may be left out; the others are scored.
        TeacherError: no usable answer; TeacherChanged if another teacher scored what the output holds.
    """
    if settings.dry_run:
        return _dry_run(settings)
    bind_file_to_settings(settings.out, _decisive(settings))
    with Appender(settings.out) as scored:
        held = frozenset(scored.held)
        digests = _checked_digests(settings)
        fingerprint = _check_held(settings, digests)
        missing = digests.keys() - held
        refusals = Refusals(settings.on_refused, settings.most_refused)
        note = ""
        if missing:
            with connect(settings, fingerprint) as teacher:
                checked_model(teacher, ScoreOptions.of(settings, settings.truncate))
                others: dict[str, Mapping[str, Any]] = {}
                sets = _missing(settings, held, others)
                stream = teacher.score_stream(sets, ScoreOptions.of(settings, settings.truncate), refusals=refusals)
                with progress(total=len(digests), done=len(digests) - len(missing), unit="sets") as bar:
                    for each in stream:
                        scored.append({**each.model_dump(exclude_none=True), **others.pop(each.id, {})})
                        bar.update()
                note = f", {teacher.tokens_scored} teacher tokens{refusals.note()}"
        new = len(scored.held) - len(held)
        closing_line(f"{settings.out}: {len(scored.held)} scored sets, {new} of them new{note}")
        refusals.check(len(digests))
    return None


def _dry_run(settings: ScoreSettings) -> None:
    from pad_student.commands.dry_run import of_scoring

    check_file_settings(settings.out, _decisive(settings))
    digests = _checked_digests(settings)
    there = settings.out.exists()
    fingerprint = _check_held(settings, digests) if there else None
    held = {each.id for each in jsonl.read(settings.out, ScoredLine, whole=True)} if there else set[str]()
    sets = [each for each, _ in read_sets(settings.sets) if each.id not in held]
    with connect(settings, fingerprint) as teacher:
        of_scoring(settings, sets, len(digests) - len(sets), teacher)


def _decisive(settings: ScoreSettings) -> dict[str, Any]:
    """What the output is bound to; ``alpha`` too if it is given, since each line's reward has it in it."""
    given = settings.model_dump(mode="json", exclude=FREE, exclude_none=True)
    return given | {"asks_selection": settings.alpha != 0}


def _missing(
    settings: ScoreSettings, held: frozenset[str], others: dict[str, Mapping[str, Any]]
) -> Iterator[SampledSet]:
    """The sets to score; the other columns of those on their way are in ``others``."""
    for each, columns in read_sets(settings.sets):
        if each.id not in held:
            others[each.id] = columns
            yield each


def _checked_digests(settings: ScoreSettings) -> Mapping[str, str]:
    """Read the whole input first, so that a bad line is found before hours of scoring; digests of contents by id."""
    digests: dict[str, str] = {}
    for each, _ in read_sets(settings.sets):
        if each.id in digests:
            raise JsonLinesError(f"{settings.sets}: two sets have the id {each.id!r}")
        digests[each.id] = digest_of_set(each)
    return digests


def _check_held(settings: ScoreSettings, digests: Mapping[str, str]) -> str | None:
    """Compare the sets that the output holds with the input; return the fingerprint of their teacher."""
    fingerprint = None
    for each in jsonl.read(settings.out, ScoredLine, whole=True):
        fingerprint = fingerprint or each.teacher.fingerprint
        if each.id in digests and digests[each.id] != digest_of_set(each):
            raise OtherRun(
                f"the set {each.id!r} of {settings.sets} has another prompt or other responses than in"
                f" {settings.out}; give another output, or move that one away"
            )
    return fingerprint
