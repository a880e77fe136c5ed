"""``pad-student distill``: prompts and a teacher's address in, a trained student out."""

from functools import partial

from pad_student.commands.common import closing_line, connect, prompts_of
from pad_student.commands.settings import DistillSettings
from pad_student.commands.template_trial import try_template
from pad_student.commands.train import is_done, output, train
from pad_student.commands.trainer_config import configure
from pad_student.on_policy.round_folder import fingerprints_so_far
from pad_student.storage.terminal.status import STATUS
from pad_student.teacher.checks.capabilities import checked_model, tells_likelihood
from pad_student.teacher.errors import TeachersDiffer
from pad_student.teacher.options import ScoreOptions


def run(settings: DistillSettings) -> None:
    """Sample, score and train in rounds; a rerun continues from the newest checkpoint and the rounds on disk.

    Raises:
        TeacherError: no usable answer; TeacherChanged if another teacher scored the rounds so far.
    """
    if settings.dry_run:
        return _dry_run(settings)
    prompts = prompts_of(settings.prompts, settings, settings.model)  # before torch is imported
    from pad_student.model.distributed.processes import fail_together, gather_from_all, is_first, leave_group

    config = configure(settings, settings.output_dir)
    with output(settings, settings.output_dir) as bind:
        if is_done(settings, config):
            return None
        with connect(settings, *fingerprints_so_far(settings.output_dir / "rounds")) as teacher:
            with STATUS.phase("asking the teacher"):
                card = fail_together(partial(checked_model, teacher, ScoreOptions.of(settings)))
            if len(set(gather_from_all((teacher.fingerprint, teacher.reference_fingerprint)))) > 1:
                raise TeachersDiffer(
                    "the processes of this run reach different teachers; give all of them the same one"
                )
            trial = partial(try_template, teacher, prompts, settings, closing_line)
            has_template = tells_likelihood(card)  # one behind an API has its own, and takes what it takes
            fail_together(lambda: trial() if is_first() and has_template else None)
            train(settings, config, prompts, teacher, bind=bind)
            tokens = sum(gather_from_all(teacher.tokens_scored))
            if is_first():
                closing_line(f"{settings.output_dir}: {tokens} teacher tokens scored")
    leave_group()
    return None


def _dry_run(settings: DistillSettings) -> None:
    from pad_student.commands.dry_run import of_training

    dropped: list[str] = []
    prompts = prompts_of(settings.prompts, settings, settings.model, dropped.append)
    unlimited = settings.model_copy(update={"max_prompt_tokens": None, "max_prompt_characters": None})
    found = len(prompts_of(settings.prompts, unlimited, settings.model)) if dropped else len(prompts)
    with connect(settings, *fingerprints_so_far(settings.output_dir / "rounds")) as teacher:
        checked_model(teacher, ScoreOptions.of(settings))
        try_template(teacher, prompts, settings, dropped.append)
        of_training(settings, prompts, dropped, found, settings.output_dir, teacher)
