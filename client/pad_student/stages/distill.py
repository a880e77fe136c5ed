"""Sample, score and train in rounds: prompts and a teacher's address in, a trained student out."""

from pad_student.rounds import fingerprint_so_far
from pad_student.settings import DistillSettings
from pad_student.stages.common import closing_line, connect, prompts_of
from pad_student.stages.train import claim_output, configure, is_done, train


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
    with connect(settings, fingerprint_so_far(settings.output_dir / "rounds")) as teacher:
        teacher.model()
        train(settings, config, prompts, teacher)
        closing_line(f"{settings.output_dir}: {teacher.tokens_scored} teacher tokens scored")
