"""``pad-student score``: response sets in, scored sets out."""

from collections.abc import Set

from pad_student.commands.common import closing_line, connect, progress
from pad_student.commands.settings import ScoreSettings
from pad_student.errors import JsonLinesError
from pad_student.storage import jsonl
from pad_student.storage.jsonl import Appender
from pad_student.storage.run_directory import bind_file_to_settings
from pad_student.teacher.options import ScoreOptions
from pad_wire import SampledSet, ScoredSet


def run(settings: ScoreSettings) -> None:
    """Have the teacher score the sets that the output does not hold yet.

    Raises:
        JsonLinesError: for a bad line in either file.
        TeacherError: no usable answer; TeacherChanged if another teacher scored what the output holds.
    """
    own = {"out", "sets", "teacher", "key", "job", "alpha"}
    asked = settings.model_dump(mode="json", exclude=own) | {"asks_selection": settings.alpha != 0}
    bind_file_to_settings(settings.out, asked)
    with Appender(settings.out) as scored:
        held = frozenset(scored.held)
        ids = _checked_ids(settings)
        first = next(jsonl.read(settings.out, ScoredSet), None)
        note = ""
        if ids - held:
            with connect(settings, first.teacher.fingerprint if first else None) as teacher:
                teacher.model()
                missing = (each for each in jsonl.read(settings.sets, SampledSet) if each.id not in held)
                stream = teacher.score_stream(missing, ScoreOptions.of(settings, settings.truncate))
                with progress(total=len(ids), done=len(ids & held), unit="sets") as bar:
                    for each in stream:
                        scored.append(each)
                        bar.update()
                note = f", {teacher.tokens_scored} teacher tokens"
        closing_line(f"{settings.out}: {len(scored.held)} scored sets, {len(ids - held)} of them new{note}")


def _checked_ids(settings: ScoreSettings) -> Set[str]:
    """Read the whole input first, so that a bad line is found before hours of scoring."""
    ids: set[str] = set()
    for each in jsonl.read(settings.sets, SampledSet):
        if each.id in ids:
            raise JsonLinesError(f"{settings.sets}: two sets have the id {each.id!r}")
        ids.add(each.id)
    return ids
