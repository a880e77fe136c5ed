"""A finished run says how to try, compare, merge and serve its student; the commands are parsed as they stand."""

import shlex
from pathlib import Path

import pytest

from pad_settings.loader import read
from pad_student.commands.next_steps import next_steps
from pad_student.commands.programs import COMMANDS, program_of
from pad_student.commands.settings import DistillSettings, TrainingSettings, TrainSettings


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("samples", [False, True])
def test_the_lines_after_a_run_are_commands_that_parse(adapter: bool, samples: bool, tmp_path: Path) -> None:
    folder = tmp_path / "my runs" / "student"
    folder.mkdir(parents=True)
    if adapter:
        (folder / "adapter_config.json").write_text("{}")
    settings: TrainingSettings = TrainSettings(model="base/model", scored=Path("scored.jsonl"), out=folder)
    if samples:
        settings = DistillSettings(
            model="base/model", teacher=["http://t:1"], prompts=Path("p"), output_dir=folder, max_response_tokens=24
        )
    lines = dict(line.split(":", 1) for line in next_steps(settings, folder))
    assert list(lines) == ["try it", "compare", *["merge"] * adapter, "serve"]
    for line in lines.values():
        program, *words = shlex.split(line)
        if program == "vllm":
            assert words == ["serve", f"{folder}-merged" if adapter else str(folder)]
            continue
        name = " ".join(words[:2]) if words[0] == "eval" else words[0]
        found = read(program_of(COMMANDS[name].settings), words[len(name.split()) :])
        assert found.settings.model == str(folder)
