"""``pad-student sample``: prompts in, response sets out."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pad_student.commands.common import closing_line, progress, prompts_of, template_options
from pad_student.commands.settings import GradeSettings, SampleSettings, WinRateSettings
from pad_student.data.prompts import PromptLine, accepted, first_few
from pad_student.errors import OtherRun
from pad_student.preference.settings import RefusalSettings
from pad_student.storage import jsonl
from pad_student.storage.contents import model_digests
from pad_student.storage.jsonl import Appender
from pad_student.storage.run_directory import bind_file_to_settings
from pad_torch.findings import FindingName
from pad_wire import SampledSet
from pad_wire.chat import TemplateOptions

if TYPE_CHECKING:
    from pad_student.sampling.generate import Student

# These may change between starts: ids tell which prompts the output holds already.
WHICH_PROMPTS = {"prompts", "subset", "split", "max_prompt_tokens", "max_prompt_characters"}


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How to sample; the fields have the names of a command's settings."""

    n: int
    temperature: float
    max_new_tokens: int
    batch_size: int
    seed: int
    allow: Collection[FindingName] = ()
    template: TemplateOptions | None = None
    refusals: RefusalSettings = field(default_factory=lambda: RefusalSettings("stop"))

    @classmethod
    def of(cls, settings: SampleSettings | GradeSettings | WinRateSettings) -> "SamplingOptions":
        """The options that a command was given."""
        same = {each.name for each in fields(cls)} - {"template", "refusals"}
        how = cls(**{name: getattr(settings, name) for name in same}, template=template_options(settings))
        return replace(how, refusals=settings) if isinstance(settings, RefusalSettings) else how


def run(settings: SampleSettings) -> None:
    """Sample responses to the prompts that the output does not hold yet.

    Raises:
        OtherRun: for an output of other settings or other weights, or with another prompt under an id.
    """
    free = {"out", *WHICH_PROMPTS, *RefusalSettings.__dataclass_fields__}
    prompts = prompts_of(settings.prompts, settings, settings.model)
    asked = settings.model_dump(mode="json", exclude=free) | model_digests(settings.model)
    bind_file_to_settings(settings.out, asked)
    how = SamplingOptions.of(settings)
    skipped = sample_into(settings.out, prompts, settings.model, how)
    closing_line(f"{settings.out}: {settings.n} responses a prompt{skipped_note(skipped)}")


def skipped_note(ids: Sequence[str]) -> str:
    """The part of a closing line about prompts without responses; empty if there are none."""
    if not ids:
        return ""
    return f"; {len(ids)} prompts skipped ({first_few(ids)}), which leave no room in the context or got no text"


def sample_into(out: Path, prompts: Sequence[PromptLine], model: "str | Student", how: SamplingOptions) -> list[str]:
    """Append a response set for each prompt that ``out`` does not hold; return the ids of prompts that got none.

    Batches do not depend on what ``out`` holds, so a continued run samples the same as an uninterrupted one.
    A model given by name is loaded only if something is left to sample.

    Raises:
        OtherRun: ``out`` has another prompt under the id of one of ``prompts``.
    """
    ids = {prompt.id for prompt in prompts}
    with Appender(out) as sets:
        _check_prompts(out, prompts)
        if ids <= sets.held:
            return []
        from pad_student.sampling.generate import fits, load_student, sample_responses

        student = load_student(model, template=how.template, allow=how.allow) if isinstance(model, str) else model
        all_prompts, prompts = prompts, accepted(str(out), prompts, student.encoder, how.refusals, closing_line)
        with progress(total=len(ids), done=len(ids & sets.held), unit="prompts") as bar:
            for batch in _batches(prompts, how.batch_size):
                missing = [each for each in batch if each.id not in sets.held]
                if any(fits(student.model, student.encoder, each.prompt, how.max_new_tokens) for each in missing):
                    responses = sample_responses(
                        student.model,
                        student.encoder,
                        [each.prompt for each in batch],
                        n=how.n,
                        temperature=how.temperature,
                        max_new_tokens=how.max_new_tokens,
                        seed=how.seed,
                        keys=[each.id for each in batch],
                    )
                    sets.append(
                        *(
                            SampledSet(id=each.id, prompt=each.prompt, responses=given)
                            for each, given in zip(batch, responses, strict=True)
                            if given and each.id not in sets.held
                        )
                    )
                bar.update(len(missing))
        return [each.id for each in all_prompts if each.id not in sets.held]


def _check_prompts(out: Path, prompts: Sequence[PromptLine]) -> None:
    """Refuse a prompt that was edited under its id: its responses would answer another one."""
    given = {each.id: each.prompt for each in prompts}
    for each in jsonl.read(out, SampledSet):
        if given.get(each.id, each.prompt) != each.prompt:
            raise OtherRun(
                f"the prompt {each.id!r} is another one than in {out}; give it another id, or give another output"
            )


def _batches(prompts: Sequence[PromptLine], size: int) -> Iterator[Sequence[PromptLine]]:
    return (prompts[start : start + size] for start in range(0, len(prompts), size))
