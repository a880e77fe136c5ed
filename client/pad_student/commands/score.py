"""``pad-student score``: response sets in, scored sets out."""

from collections.abc import Mapping

from pad_student.commands.common import closing_line, connect, progress
from pad_student.commands.settings import ScoreSettings
from pad_student.errors import JsonLinesError, OtherRun
from pad_student.storage import jsonl
from pad_student.storage.contents import digest_of_set
from pad_student.storage.jsonl import Appender
from pad_student.storage.run_directory import bind_file_to_settings
from pad_student.teacher.options import ScoreOptions
from pad_wire import SampledSet, ScoredSet

# These may change between starts: contents tell which sets are scored, and each response says whether it was cut.
FREE = {"out", "sets", "teacher", "key", "job", "alpha", "truncate"}


def run(settings: ScoreSettings) -> None:
    """Have the teacher score the sets that the output does not hold yet.

    Raises:
        JsonLinesError: for a bad line in either file.
        OtherRun: for an output of other settings, or with other texts under the id of a set.
        TeacherError: no usable answer; TeacherChanged if another teacher scored what the output holds.
    """
    asked = settings.model_dump(mode="json", exclude=FREE) | {"asks_selection": settings.alpha != 0}
    bind_file_to_settings(settings.out, asked)
    with Appender(settings.out) as scored:
        held = frozenset(scored.held)
        digests = _checked_digests(settings)
        fingerprint = _check_held(settings, digests)
        missing = digests.keys() - held
        note = ""
        if missing:
            with connect(settings, fingerprint) as teacher:
                teacher.model()
                sets = (each for each in jsonl.read(settings.sets, SampledSet) if each.id not in held)
                stream = teacher.score_stream(sets, ScoreOptions.of(settings, settings.truncate))
                with progress(total=len(digests), done=len(digests) - len(missing), unit="sets") as bar:
                    for each in stream:
                        scored.append(each)
                        bar.update()
                note = f", {teacher.tokens_scored} teacher tokens"
        closing_line(f"{settings.out}: {len(scored.held)} scored sets, {len(missing)} of them new{note}")


def _checked_digests(settings: ScoreSettings) -> Mapping[str, str]:
    """Read the whole input first, so that a bad line is found before hours of scoring; digests of contents by id."""
    digests: dict[str, str] = {}
    for each in jsonl.read(settings.sets, SampledSet):
        if each.id in digests:
            raise JsonLinesError(f"{settings.sets}: two sets have the id {each.id!r}")
        digests[each.id] = digest_of_set(each)
    return digests


def _check_held(settings: ScoreSettings, digests: Mapping[str, str]) -> str | None:
    """Compare the sets that the output holds with the input; return the fingerprint of their teacher."""
    fingerprint = None
    for each in jsonl.read(settings.out, ScoredSet):
        fingerprint = fingerprint or each.teacher.fingerprint
        if each.id in digests and digests[each.id] != digest_of_set(each):
            raise OtherRun(
                f"the set {each.id!r} of {settings.sets} has another prompt or other responses than in"
                f" {settings.out}; give another output, or move that one away"
            )
    return fingerprint
