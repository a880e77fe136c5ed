"""A finding about the student's files is refused by name, and ``--allow NAME`` takes the student all the same."""

from pathlib import Path

import pytest

from pad_student.commands.cli import main
from pad_student.errors import SamplingError
from pad_student.sampling.generate import load_student
from pad_torch import own_tokenizer

STUDENT = str(Path(__file__).parents[4] / "examples" / "tinyworld" / "student")


@pytest.fixture
def other_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_tokenizer, "_ids_of_file", lambda path: [])


@pytest.mark.usefixtures("other_ids")
def test_a_finding_names_the_option_that_allows_it() -> None:
    with pytest.raises(SamplingError, match="give --allow tokenizer-file"):
        load_student(STUDENT)
    load_student(STUDENT, allow=["tokenizer-file"])


@pytest.mark.usefixtures("other_ids")
def test_the_command_line_takes_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"id": "0", "prompt": "Why?"}\n')
    sample = ["sample", "--model", STUDENT, "--prompts", str(prompts), "--max-new-tokens", "2", "-n", "1"]
    assert main([*sample, "--out", str(tmp_path / "refused.jsonl")]) == 1
    assert "--allow tokenizer-file" in capsys.readouterr().err
    assert main([*sample, "--out", str(tmp_path / "sets.jsonl"), "--allow", "tokenizer-file"]) == 0


def test_a_template_that_loses_text_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, template = tmp_path / "prompts.jsonl", tmp_path / "lower.jinja"
    prompts.write_text('{"id": "0", "prompt": "Why?"}\n')
    own = (Path(STUDENT) / "chat_template.jinja").read_text()
    template.write_text(own.replace("message['content']", "(message['content'] | lower)"))
    sample = ["sample", "--model", STUDENT, "--prompts", str(prompts), "--max-new-tokens", "2", "-n", "1"]
    sample += ["--chat-template", str(template), "--out", str(tmp_path / "sets.jsonl")]
    allow = ["--allow", "template-prompt,template-answer"]
    assert main(sample) == 1
    assert "--allow template-prompt" in capsys.readouterr().err
    assert main([*sample, *allow]) == 0
    assert main(sample) == 1  # the output is bound to what was allowed
    assert "allow" in capsys.readouterr().err
