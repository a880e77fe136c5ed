"""Sample, score and train in rounds: prompts and a teacher's address in, a trained student out."""

from pathlib import Path

from pad_student import jsonl
from pad_student.settings import DistillSettings
from pad_student.stages.common import closing_line, connect, prompts_of
from pad_student.stages.train import claim_output, configure, is_done, train
from pad_wire import ScoredSet


def run(settings: DistillSettings) -> None:
    """Distil; a rerun continues from the newest whole checkpoint and from the rounds that are on disk.

    Raises:
        TeacherError: among them TeacherChanged, where another teacher scored the rounds so far.
    """
    prompts = prompts_of(settings.prompts, settings, settings.model)
    config = configure(settings, settings.output_dir)
    claim_output(settings, settings.output_dir)
    if is_done(config):
        return
    with connect(settings, _fingerprint_so_far(settings.output_dir)) as teacher:
        teacher.model()
        train(settings, config, prompts, teacher)
        closing_line(f"{settings.output_dir}: {teacher.tokens_scored} teacher tokens scored")


def _fingerprint_so_far(output_dir: Path) -> str | None:
    for path in sorted(output_dir.glob("rounds/*/scored*")):
        for each in jsonl.read(path, ScoredSet):
            return each.teacher.fingerprint
    return None
