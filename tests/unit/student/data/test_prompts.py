"""Prompts come from the data that people have; dropped and refused ones are reported with their place."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset

from pad_student.commands import sample
from pad_student.commands.settings import SampleSettings
from pad_student.data.prompts import PromptOptions, prompt_id, read_prompts
from pad_student.errors import DatasetError, PromptsError
from pad_student.training.batches import as_rows
from pad_wire import ScoredSet
from pad_wire.chat import as_messages
from support.sample_data import ROWS, by_library, lines
from support.tiny_student import save_tiny_student, tiny_encoder

datasets.disable_progress_bars()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def tool(text: str) -> dict[str, str]:
    return {"role": "tool", "content": text}


def user_of(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


TALK = [user("hello"), assistant("hi"), user("how are you?")]


TALK_OF_SHAREGPT = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]


SCORED = {
    "id": "s",
    "prompt": "say a",
    "responses": [
        {"text": text, "log_likelihood": -1.0, "tokens": 1, "mean_log_likelihood": -1.0, "selection_probability": 0.5}
        for text in "ab"
    ],
    "teacher": {"model": "m", "fingerprint": "f"},
}


def of_row(folder: Path, row: Any, **options: Any) -> Any:
    (line,) = read_prompts(lines(folder / "prompts.jsonl", row), PromptOptions(**options))
    return line.prompt if isinstance(line.prompt, str) else as_messages(line.prompt)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_rows_of_json_lines_may_differ_in_form(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", {"prompt": "text"}, {"prompt": TALK}, {"id": 7, "instruction": "do"})
    first, second, third = read_prompts(path)
    assert (first.prompt, third.prompt, third.id) == ("text", "do", "7")
    assert as_messages(second.prompt) == TALK
    assert first.id == prompt_id("text")
    assert second.id == prompt_id(TALK)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": TALK}, TALK),
        ({"prompt": None, "messages": [*TALK, assistant("fine"), assistant("and you?")]}, TALK),
        ({"messages": [system(""), *TALK]}, TALK),
        ({"messages": [{**user("hi"), "name": None, "tool_calls": None}, assistant("ho")]}, [user("hi")]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, [user("hi")]),
        ({"conversations": TALK_OF_SHAREGPT}, [user("hi")]),
        ({"instruction": "add", "input": "1 2", "output": "3"}, "add\n\n1 2"),
        ({"instruction": "add", "input": "", "output": "3"}, "add"),
        ({"instruction": "who?", "context": "Ada wrote.", "response": "Ada", "category": "qa"}, "who?\n\nAda wrote."),
        ({"instruction": "who?", "context": "", "response": "Ada", "category": "qa"}, "who?"),
        (
            {
                "prompt": "hi",
                "prompt_id": "7",
                "messages": [system("be kind"), user("hi"), {"role": "assistant", "content": "ho"}],
                "category": "Chat",
            },
            [system("be kind"), user("hi")],
        ),
        ({"prompt": "hi", "messages": [user("hi"), {"role": "assistant", "content": "ho"}]}, "hi"),
        ({"chosen": [*TALK, assistant("well")], "rejected": [*TALK, assistant("bad")]}, TALK),
        ({"chosen": [*TALK, assistant("well")], "rejected": [*TALK, assistant("well")]}, TALK),
        ({"chosen": [*TALK, assistant("a")], "rejected": [TALK[0], assistant("b"), *TALK[2:]]}, TALK[:1]),
        ({"prompt": "hi", "tools": [], "images": None}, "hi"),
        ({"prompt": "hi", "tools": "[]", "history": "", "system": ""}, "hi"),
        ({"prompt": " "}, " "),
        ({"instruction": "add", "input": "1 2", "system": "be kind"}, [system("be kind"), user("add\n\n1 2")]),
        ({"prompt": "hi", "system_prompt": "be kind"}, [system("be kind"), user("hi")]),
        ({"prompt": "hi", "system_message": "be kind"}, [system("be kind"), user("hi")]),
        ({"instruction": "hi", "sys_prompt": "be kind"}, [system("be kind"), user("hi")]),
        ({"prompt": "who?\n\nAda wrote.", "context": "Ada wrote.", "input": ""}, "who?\n\nAda wrote."),
        ({"conversations": TALK_OF_SHAREGPT, "system": "be kind"}, [system("be kind"), user("hi")]),
        ({"messages": [system("be kind"), *TALK], "system": "be kind"}, [system("be kind"), *TALK]),
        ({"messages": [user("hi"), {"role": "tool", "content": "3"}, assistant("three")]}, [user("hi"), tool("3")]),
    ],
)
def test_a_rows_prompt_is_found_by_trls_and_alpacas_conventions(tmp_path: Path, row: Any, prompt: Any) -> None:
    assert of_row(tmp_path, row) == prompt
    (line,) = as_rows(Dataset.from_list([row]))
    assert (line.prompt if isinstance(line.prompt, str) else as_messages(line.prompt)) == prompt


@pytest.mark.parametrize("name", ["gpt", "chatgpt", "bing", "bard", "model", "assistant"])
def test_the_answer_of_any_sharegpt_model_is_left_out(tmp_path: Path, name: str) -> None:
    talk = [{"from": "user", "value": "hi"}, {"from": name, "value": "ho"}]
    assert of_row(tmp_path, {"conversations": talk}) == [user("hi")]
    assert of_row(tmp_path, {"conversations": [*talk, talk[0]]}) == [user("hi"), assistant("ho"), user("hi")]


def test_a_column_that_is_named_goes_before_every_convention(tmp_path: Path) -> None:
    row = {"prompt": "not this", "question": "this", "talk": [*TALK, assistant("fine")], "image": "cat.png"}
    assert of_row(tmp_path, row, column="question") == "this"
    assert of_row(tmp_path, row, column="talk") == TALK


def test_a_system_prompt_is_added_if_there_is_none(tmp_path: Path) -> None:
    """The prompt with it is another prompt, with another id."""
    own = [system("be rude"), user("hi")]
    assert of_row(tmp_path, {"prompt": "hi"}, system="be kind") == [system("be kind"), user("hi")]
    assert of_row(tmp_path, {"messages": TALK}, system="be kind") == [system("be kind"), *TALK]
    assert of_row(tmp_path, {"prompt": own}, system="be kind") == own
    assert of_row(tmp_path, {"prompt": "hi", "system": "be rude"}, system="be kind") == own
    assert of_row(tmp_path, {"q": "hi", "system": "be rude"}, column="q") == own
    assert of_row(tmp_path, {"system": "hi"}, column="system") == "hi"
    path = lines(tmp_path / "p.jsonl", {"prompt": "hi"})
    assert read_prompts(path, PromptOptions(system="be kind"))[0].id != read_prompts(path)[0].id


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("text", "expected an object with `prompt`"),
        ({"question": "why?", "answer": 1}, "found question, answer; --column names another one"),
        ({"prompt": 3}, "prompt: expected text or a list of messages"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"instruction": ""}, "the prompt is empty"),
        ({"prompt": []}, "prompt: no turn of the user"),
        ({"prompt": [system("be kind")]}, "prompt: no turn of the user"),
        ({"prompt": [*TALK, assistant("I")]}, "prompt: the conversation ends with the assistant"),
        ({"prompt": [user("")]}, "prompt: a message is empty"),
        ({"messages": "user: hi"}, "messages: expected text or a list of messages"),
        ({"messages": [assistant("hi")]}, "messages: no turn of the user"),
        ({"messages": [user("hi"), "hi"]}, r"messages\[1\]: expected a message with role and content"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]: expected a role and a content, both text"),
        ({"messages": [{"from": 1, "value": "hi"}]}, r"messages\[0\]: expected a role and a content, both text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, r"messages\[0\]: a part of its content"),
        ({"messages": [user_of({"type": "image_url", "text": "a cat"})]}, r"messages\[0\]: a part of its content"),
        ({"messages": [user_of({"text": "a cat", "image_url": "u"})]}, r"messages\[0\]: a part of its content"),
        (
            {"messages": [{"role": "critic", "content": "hi"}]},
            r"messages\[0\]: its role is none of system, developer",
        ),
        ({"conversations": [{"from": "function_call", "value": "f()"}]}, r"conversations\[0\]: its role is none of"),
        ({"messages": [{"role": "developer", "content": "be kind"}]}, "messages: no turn of the user"),
        ({"messages": [user("hi"), system("be kind"), assistant("ho")]}, "messages: no turn of the user"),
        ({"messages": [{**assistant(""), "function_call": {"name": "f"}}]}, r"messages\[0\]: calls tools"),
        ({"instruction": "do", "history": [["hi", "ho"]]}, "its prompt has history, which cannot be sent"),
        ({"prompt": "hi", "videos": ["v"]}, "its prompt has videos, which cannot be sent"),
        ({"prompt": "hi", "audio": {"path": "a"}}, "its prompt has audio, which cannot be sent"),
        ({"prompt": "hi", "tools": '[{"name": "search"}]'}, "its prompt has tools, which cannot be sent"),
        ({"prompt": "hi", "system": ["be kind"]}, "sys_prompt: expected text"),
        ({"prompt": "hi", "system": "be kind", "system_prompt": "be rude"}, "two system prompts, and they differ"),
        ({"messages": [system("be rude"), user("hi")], "system": "be kind"}, "the one in its conversation differ"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, r"messages\[0\]: calls tools"),
        ({"prompt": "hi", "tools": [{"name": "search"}]}, "its prompt has tools, which cannot be sent"),
        ({"instruction": 3}, "instruction, input and context: expected text"),
        (
            {"prompt": "hi", "context": "Ada wrote."},
            "its prompt has context besides, which",
        ),
        ({"prompt": "hi", "input": "Ada wrote."}, "its prompt has input besides, which"),
        ({"prompt": "hi", "documents": [{"text": "Ada wrote."}]}, "its prompt has documents, which cannot be sent"),
        ({"prompt": "hi", "functions": [{"name": "add"}]}, "its prompt has functions, which cannot be sent"),
        ({"instruction": "go on", "chat_history": [["a", "b"]]}, "its prompt has chat_history, which cannot be sent"),
        ({"prompt": "hi", "messages": [user("ho")]}, "its prompt is no turn of its messages: choose one"),
        ({"prompt": "hi", "messages": [{"role": "x"}]}, "--column prompt takes the prompt alone"),
        ({"chosen": "Human: hi A", "rejected": "Human: hi B"}, "--column names a prompt"),
        ({"chosen": [assistant("a")], "rejected": [assistant("b")]}, "chosen: no turn of the user"),
        ({"id": [1], "prompt": "hi"}, "id: Input should be a valid string"),
    ],
)
def test_a_row_without_a_usable_prompt_is_named(tmp_path: Path, row: Any, complaint: str) -> None:
    """The message says what was expected."""
    path = lines(tmp_path / "p.jsonl", ROWS[0], row)
    with pytest.raises(PromptsError, match=rf"p\.jsonl, line 2: .*{complaint}") as caught:
        read_prompts(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(PromptsError, match=f"train_dataset, row 1: .*{complaint}"):
        as_rows([ROWS[0], row])


def test_text_that_no_tokenizer_can_read_is_refused() -> None:
    for row in ({"prompt": "lone \ud800"}, {"id": "a", "prompt": "lone \ud800"}):
        with pytest.raises(PromptsError, match=r"train_dataset, row 0: prompt: text .* a lone surrogate"):
            as_rows([row])


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = by_library("parquet", "p.parquet")(tmp_path)
    with pytest.raises(PromptsError, match=r"p\.parquet, row 0: no 'question' in it, only id, prompt, source"):
        read_prompts(path, PromptOptions(column="question"))


def test_prompts_get_stable_ids_and_repeats_are_kept_once(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", {"prompt": "p"}, {"prompt": "p", "source": "x"}, {"id": "q", "prompt": "p"})
    assert [each.id for each in read_prompts(path)] == [prompt_id("p"), "q"]
    assert prompt_id("p") == "1fb680aa1ed965bc"


def test_two_prompts_under_one_id_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", {"id": "a", "prompt": "p"}, {"id": "a", "prompt": "q"})
    with pytest.raises(PromptsError, match=r"p\.jsonl, line 2: two different prompts have the id 'a'"):
        read_prompts(path)


def test_what_is_too_long_is_dropped_and_said_in_one_line(tmp_path: Path) -> None:
    rows = [{"id": f"p{k}", "prompt": "x" * k} for k in range(1, 21)]
    complaint: list[str] = []
    options = PromptOptions(max_prompt_characters=14, max_prompt_tokens=12)
    left = read_prompts(lines(tmp_path / "p.jsonl", *rows), options, tiny_encoder(), complaint.append)
    # the tiny template adds three tokens; a character is a token
    assert [each.id for each in left] == [f"p{k}" for k in range(1, 10)]
    assert complaint == [
        f"{tmp_path / 'p.jsonl'}: 11 of 20 prompts dropped: 6 over max_prompt_characters = 14 (p15, p16, p17 and 3 "
        "more); 5 over max_prompt_tokens = 12 (p10, p11, p12 and 2 more)"
    ]


def test_a_prompts_length_counts_all_its_messages(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", {"messages": TALK}, {"prompt": "short"})
    complaints: list[str] = []
    assert len(read_prompts(path, PromptOptions(max_prompt_characters=19), say=complaints.append)) == 2
    assert [
        each.prompt for each in read_prompts(path, PromptOptions(max_prompt_characters=18), say=complaints.append)
    ] == ["short"]
    assert len(complaints) == 1


def test_no_prompt_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PromptsError, match="no prompts"):
        read_prompts(lines(tmp_path / "p.jsonl"))
    with pytest.raises(PromptsError, match="no prompt is short enough"):
        read_prompts(lines(tmp_path / "p.jsonl", *ROWS), PromptOptions(max_prompt_characters=1), say=lambda _: None)


def test_rows_are_let_go_as_soon_as_their_prompts_are_taken() -> None:
    class Row(dict[str, Any]):
        """A dict that weak references can point to."""

    made: list[weakref.ref[Row]] = []

    def rows() -> Iterator[Row]:
        for k in range(9):
            row = Row(id=f"p{k}", prompt="hi", completion="long")
            made.append(weakref.ref(row))
            yield row
            assert sum(each() is not None for each in made) <= 2

    assert len(as_rows(rows())) == len(made) == 9


def test_scored_sets_are_told_from_prompts_in_any_form(tmp_path: Path) -> None:
    (from_file,) = as_rows(str(lines(tmp_path / "scored.jsonl", SCORED)))
    (from_dataset,) = as_rows(Dataset.from_list([SCORED]))
    assert from_file == from_dataset == ScoredSet.model_validate(SCORED)
    cut = {**SCORED, "responses": [{**SCORED["responses"][0], "finished": False}, SCORED["responses"][1]]}
    (with_gaps,) = as_rows(Dataset.from_list([cut]))  # Arrow fills in None where the second says nothing
    assert [response.finished for response in with_gaps.responses] == [False, True]
    with pytest.raises(DatasetError, match=r"train_dataset, row 0: responses\[0\]: log_likelihood is missing"):
        as_rows([{**SCORED, "responses": [{"text": "a"}]}])


def test_sample_reads_a_dataset_and_reports_dropped_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reports skipped ones too."""
    model = str(save_tiny_student(tmp_path / "student"))
    rows = [{"question": "x" * length} for length in (3, 40, 58)]
    Dataset.from_list(rows).to_parquet(str(tmp_path / "p.parquet"))
    settings = SampleSettings(
        model=model,
        prompts=tmp_path / "p.parquet",
        out=tmp_path / "sets.jsonl",
        column="question",
        max_prompt_tokens=50,
        n=2,
        max_new_tokens=24,
    )
    sample.run(settings)
    err = capsys.readouterr().err
    assert f"1 of 3 prompts dropped: 1 over max_prompt_tokens = 50 ({prompt_id('x' * 58)})" in err
    assert f"1 prompts skipped ({prompt_id('x' * 40)})" in err
    with pytest.raises(Exception, match="another system"):
        sample.run(settings.model_copy(update={"system": "be kind"}))
