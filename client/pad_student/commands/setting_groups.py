"""Groups of settings that several commands have; the first line of each docstring is a heading in their help."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode

from pad_student.preference.settings import TemplateSettings
from pad_torch.findings import FindingName

Positive = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0)]


def _comma_separated(given: Any) -> Any:
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


Urls = Annotated[list[str], NoDecode, Field(min_length=1), BeforeValidator(_comma_separated)]


class Settings(BaseModel):
    """One command's settings; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ServiceAccess(Settings):
    """How a scoring service is asked."""

    key: SecretStr | None = None
    """The teacher's key. Prefer the variable PAD_STUDENT_KEY: other users can see a command line."""
    job: str | None = None
    """The job under which the teacher counts this work; by default the name of the output."""
    timeout: Annotated[float, Field(gt=0)] = 120.0
    """Seconds for one reply. A request of several sets that takes longer is halved; raise it for a slow teacher."""
    patience: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for one request with all of its tries, before the command stops."""

    @property
    def urls(self) -> list[str]:
        """The addresses of the service and its replicas."""
        raise NotImplementedError


class TeacherAccess(ServiceAccess):
    """Which teacher to ask, and under which name."""

    teacher: Urls
    """The teacher's URL, as in http://127.0.0.1:8010; several URLs, with commas between, share the work."""

    @property
    def urls(self) -> list[str]:
        """The teacher's."""
        return self.teacher


class ReferenceAccess(TeacherAccess):
    """Which teacher to ask, and perhaps another service for its reference."""

    reference: Urls | None = None
    """adpa: URL of a service that holds the model which the teacher was aligned from; by default the teacher's own
    service holds it, started with --reference."""
    reference_key: SecretStr | None = None
    """adpa: that service's key, by default the teacher's. Prefer the variable PAD_STUDENT_REFERENCE_KEY."""


class ConversationSettings(Settings, TemplateSettings):
    """How the student's conversations are written."""

    chat_template: Path | None = None
    """Jinja file that replaces the tokenizer's own chat template."""
    allow: list[FindingName] = []
    """Findings about the student's files that are no reason to refuse it, by name as in the message."""


class DryRun(Settings):
    """A look ahead."""

    dry_run: bool = False
    """Measure one micro-batch or request; print rows, steps, teacher tokens, disk and time; write nothing."""


class SamplingSettings(ConversationSettings):
    """How the student samples responses."""

    temperature: Temperature = 0.8
    """Sampling temperature; 0 takes the most likely token, and one response."""
    max_new_tokens: Positive = 1024
    """Longest response; longer ones are cut. A prompt that leaves no room for it in the context is skipped."""
    batch_size: Positive = 16
    """Prompts sampled in one batch."""
    seed: int = 0
    """The same seed gives the same responses, also in a continued run."""


class PromptData(Settings):
    """Which prompts to take from the data."""

    subset: str | None = None
    """Subset (configuration) of a dataset on the Hub that has several."""
    split: str | None = None
    """Split of a directory or of a dataset on the Hub; by default its only one, or train."""
    column: str | None = None
    """Column of the prompt, as text or messages; by default the first present of prompt, messages,
    instruction, and the beginning that chosen and rejected share."""
    system: str | None = None
    """System prompt for prompts that have none of their own, held-out ones among them."""
    max_prompt_tokens: Positive | None = None
    """Drop longer prompts and report them; counted with the student's tokenizer and chat template."""
    max_prompt_characters: Positive | None = None
    """Drop longer prompts and report them."""
