"""A chat template's findings are refused before weights are read, and ``--allow NAME`` is in the fingerprint."""

import shutil
from pathlib import Path

import pytest

from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.errors import CannotServe
from pad_teacher.scoring.load import load
from pad_teacher.settings import ServeSettings
from pad_torch.findings import FindingName

TEACHER = Path(__file__).parents[2] / "examples" / "tinyworld" / "teacher"


def folder(path: Path, old: str, new: str) -> str:
    shutil.copytree(TEACHER, path)
    file = path / "chat_template.jinja"
    template = file.read_text()
    assert old in template
    file.write_text(template.replace(old, new))
    return str(path)


@pytest.fixture
def lowers(tmp_path: Path) -> str:
    return folder(tmp_path / "lowers", "message['content']", "(message['content'] | lower)")


def test_it_is_refused_in_one_line_before_the_weights(lowers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TransformersEngine, "load", None)
    with pytest.raises(
        CannotServe, match=r"'Name a colour' and 'name a colour' alike; .*--allow template-prompt"
    ) as no:
        load(ServeSettings(model=lowers))
    assert "\n" not in str(no.value)
    with pytest.raises(CannotServe, match="--allow template-answer"):
        load(ServeSettings(model=lowers, allow=["template-prompt"]))


def test_what_is_allowed_is_in_the_fingerprint(lowers: str) -> None:
    both: list[FindingName] = ["template-prompt", "template-answer"]
    allowed = load(ServeSettings(model=lowers, allow=both)).id.fingerprint
    assert allowed != load(ServeSettings(model=lowers, allow=[*both, "template-end"])).id.fingerprint


def test_a_template_without_the_prompt_is_never_allowed(tmp_path: Path) -> None:
    forgets = folder(tmp_path / "forgets", "message['content']", "('' if message['role'] == 'user' else 'x')")
    every: list[FindingName] = ["template-prompt", "template-answer", "template-end"]
    with pytest.raises(CannotServe, match=r"leaves out the user's text; .*--chat-template FILE"):
        load(ServeSettings(model=forgets, allow=every))
