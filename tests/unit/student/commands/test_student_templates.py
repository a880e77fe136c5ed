"""The student's chat template: given as a file, told arguments and a date, tried on the data before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import sample
from pad_student.commands.settings import SampleSettings
from pad_student.errors import PromptsError
from pad_student.storage.jsonl import read
from pad_student.training.usable import usable_rows
from pad_wire import SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder, TemplateError
from support.student_runs import config, scored_sets
from support.tiny_student import TEMPLATE, save_tiny_student, tiny_model, tiny_tokenizer

ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
ROWS: list[dict[str, Any]] = [
    {"id": "first", "prompt": "hi"},
    {"id": "two", "prompt": [{"role": "user", "content": "hi"}, {"role": "user", "content": "there"}]},
]


def saved(folder: Path, template: Any) -> str:
    save_tiny_student(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    return str(folder)


def settings(folder: Path, model: str, rows: list[dict[str, Any]], **changes: Any) -> SampleSettings:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = folder / "sets.jsonl"
    return SampleSettings(model=model, prompts=prompts, out=out, n=1, max_new_tokens=4, batch_size=1, **changes)


def test_a_refused_prompt_is_named_before_anything_is_sampled(tmp_path: Path) -> None:
    how = settings(tmp_path, saved(tmp_path / "model", ALTERNATE + TEMPLATE), ROWS)
    with pytest.raises(PromptsError, match=r"prompt 'two': .*roles must alternate"):
        sample.run(how)
    assert not how.out.read_bytes()


def test_training_names_a_refused_row_at_its_start(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = ALTERNATE + TEMPLATE
    good = scored_sets(count=1)[0]
    bad = ScoredSet.model_validate({**good.model_dump(), "id": "two", "prompt": ROWS[1]["prompt"]})
    encoder = ChatEncoder.of(tokenizer)
    with pytest.raises(PromptsError, match=r"prompt 'two': .*roles must alternate"):
        usable_rows([good, bad], tiny_model(), encoder, config(tmp_path), scores_more=False)


def test_a_model_without_a_template_takes_one_from_a_file(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", None)
    file = tmp_path / "template.jinja"
    file.write_bytes(b"\xef\xbb\xbf" + TEMPLATE.encode())
    with pytest.raises(TemplateError, match="--chat-template FILE"):
        sample.run(settings(tmp_path, model, ROWS[:1]))
    how = settings(tmp_path, model, ROWS[:1], chat_template=file)
    sample.run(how)
    assert [each.id for each in read(how.out, SampledSet)] == ["first"]


def test_arguments_and_date_reach_the_students_template(tmp_path: Path) -> None:
    told = "{{ raise_exception('told ' ~ mood ~ strftime_now(' %Y')) if mood is defined and messages | length == 4 }}"
    model = saved(tmp_path / "model", told + TEMPLATE.replace("messages %}", "messages %}{{ '' if mood else '' }}"))
    rows = [{"id": "one", "prompt": [{"role": "user", "content": "a"}] * 4}]
    sample.run(settings(tmp_path, model, rows))
    (tmp_path / "sets.jsonl").unlink()
    with pytest.raises(PromptsError, match="told good 2031"):
        sample.run(settings(tmp_path, model, rows, template_args={"mood": "good"}, date="2031-02-03"))


def test_response_sets_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "prompt": "b", "responses": ["c"]}\n')
    assert [each.id for each in read(path, SampledSet)] == ["a"]
