"""``pad-student distill``: prompts and a teacher's address in, a trained student out."""

from pad_student.commands.common import closing_line, connect, prompts_of
from pad_student.commands.settings import DistillSettings
from pad_student.commands.train import configure, is_done, output, train
from pad_student.on_policy.round_folder import fingerprint_so_far
from pad_student.teacher.errors import TeachersDiffer


def run(settings: DistillSettings) -> None:
    """Sample, score and train in rounds; a rerun continues from the newest checkpoint and the rounds on disk.

    Raises:
        TeacherError: no usable answer; TeacherChanged if another teacher scored the rounds so far.
    """
    from pad_student.model.distributed.processes import fail_together, gather_from_all, is_first, leave_group

    prompts = prompts_of(settings.prompts, settings, settings.model)
    config = configure(settings, settings.output_dir)
    with output(settings, settings.output_dir) as bind:
        if is_done(config):
            return
        with connect(settings, fingerprint_so_far(settings.output_dir / "rounds")) as teacher:
            fail_together(teacher.model)
            if len(set(gather_from_all(teacher.fingerprint))) > 1:
                raise TeachersDiffer(
                    "the processes of this run reach different teachers; give all of them the same one"
                )
            train(settings, config, prompts, teacher, bind=bind)
            tokens = sum(gather_from_all(teacher.tokens_scored))
            if is_first():
                closing_line(f"{settings.output_dir}: {tokens} teacher tokens scored")
    leave_group()
