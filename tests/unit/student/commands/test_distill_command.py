"""``pad-student distill`` in this process: what it hands to the parts that train and report."""

import json
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import distill
from pad_student.commands.settings import DistillSettings
from pad_student.teacher.client import Teacher
from support.fake_teacher import FakeTeacherService
from support.tiny_student import save_tiny_student


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a run of four prompts and one step."""
    fake = FakeTeacherService()
    monkeypatch.setattr(distill, "connect", lambda *_: Teacher("http://t", transport=fake.transport))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": k, "prompt": f"say {k}"}) + "\n" for k in "abcd"))
    files = {"model": str(save_tiny_student(tmp_path / "base")), "prompts": prompts, "output_dir": tmp_path / "run"}
    sizes = {"prompts_per_step": 2, "max_response_tokens": 5, "max_steps": 1}
    return {"teacher": ["http://t"], **files, **sizes, "trainer": {"use_cpu": True, "disable_tqdm": True}}


def test_the_report_takes_its_prompts_from_all_of_the_run(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Also if a prompt's responses are divided into parts."""
    distill.run(DistillSettings(**settings, parts=2))
    shown = [json.loads(line) for line in (tmp_path / "run" / "shown.jsonl").read_text().splitlines()]
    assert {line["prompt_id"] for line in shown if line["step"] == 0} == set("abcd")


def test_held_out_prompts_get_the_system_prompt_too(tmp_path: Path, settings: dict[str, Any]) -> None:
    held_out = tmp_path / "heldout.jsonl"
    held_out.write_text('{"id": "h", "prompt": "say h"}\n')
    settings["trainer"]["eval_steps"] = 1
    distill.run(DistillSettings(**settings, system="Be brief.", eval_prompts=held_out))
    start = json.loads((tmp_path / "run" / "heldout.jsonl").read_text().splitlines()[0])
    assert [turn["role"] for turn in start["prompt"]] == ["system", "user"]
