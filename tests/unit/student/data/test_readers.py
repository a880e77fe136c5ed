"""Data is read from wherever people have it, as it is written; what cannot be read is named in one line."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict

from pad_student.data import readers as sources
from pad_student.data.prompts import PromptLine, PromptOptions, prompt_id, read_prompts
from pad_student.errors import DatasetError, PromptsError
from pad_student.training.batches import as_rows
from support.sample_data import ROWS, by_library, lines

datasets.disable_progress_bars()


def as_json(folder: Path) -> Path:
    path = folder / "prompts.json"
    path.write_text(json.dumps(ROWS, indent=1))
    return path


def as_gzip(folder: Path) -> Path:
    path = folder / "prompts.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    return path


def saved(folder: Path) -> Path:
    Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    return folder / "saved"


def saved_with_splits(folder: Path) -> Path:
    other = Dataset.from_list([{"id": "other", "prompt": "another split"}])
    DatasetDict(train=Dataset.from_list(ROWS), test=other).save_to_disk(folder / "splits")
    return folder / "splits"


def of_data_files(folder: Path) -> Path:
    (folder / "files").mkdir()
    Dataset.from_list(ROWS).to_parquet(str(folder / "files" / "train-00000.parquet"))
    Dataset.from_list(ROWS[:1]).to_parquet(str(folder / "files" / "test-00000.parquet"))
    return folder / "files"


FORMS = {
    "JSON lines": lambda folder: lines(folder / "prompts.jsonl", *ROWS),
    "JSON lines under another name": lambda folder: lines(folder / "prompts.json", *ROWS),
    "a JSON list": as_json,
    "gzip": as_gzip,
    "parquet": by_library("parquet", "prompts.parquet"),
    "csv": by_library("csv", "prompts.csv"),
    "a saved dataset": saved,
    "a saved dataset with splits": saved_with_splits,
    "a directory of parquet files": of_data_files,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("write", FORMS.values(), ids=FORMS)
def test_commands_and_trainer_read_every_form_of_data_alike(tmp_path: Path, write: Any) -> None:
    expected = [PromptLine(id=f"p{k}", prompt=f"say {k}") for k in range(4)]
    path = write(tmp_path)
    assert read_prompts(path) == expected
    assert as_rows(path) == expected


def test_a_split_is_chosen_by_name(tmp_path: Path) -> None:
    """The error about a missing split lists those that exist."""
    both, files = saved_with_splits(tmp_path), of_data_files(tmp_path)
    assert [each.id for each in read_prompts(both, PromptOptions(split="test"))] == ["other"]
    assert [each.id for each in read_prompts(files, PromptOptions(split="test"))] == ["p0"]
    with pytest.raises(PromptsError, match="has the splits train, test: choose one with --split"):
        read_prompts(both, PromptOptions(split="dev"))
    with pytest.raises(PromptsError, match=r"Unknown split \"dev\"\. Should be one of"):
        read_prompts(files, PromptOptions(split="dev"))
    only = DatasetDict(dev=Dataset.from_list(ROWS))
    only.save_to_disk(tmp_path / "only")
    assert len(read_prompts(tmp_path / "only")) == 4
    with pytest.raises(PromptsError, match="neither subsets nor splits"):
        read_prompts(lines(tmp_path / "p.jsonl", *ROWS), PromptOptions(split="train"))
    with pytest.raises(DatasetError, match="has the splits dev: give one of them"):
        as_rows(only)


@pytest.mark.parametrize("name", ["test.jsonl", "validation.csv"])
def test_the_default_split_is_the_only_one_or_train(tmp_path: Path, name: str) -> None:
    (tmp_path / "one").mkdir()
    getattr(Dataset.from_list(ROWS), "to_csv" if name.endswith("csv") else "to_json")(str(tmp_path / "one" / name))
    assert [each.id for each in read_prompts(tmp_path / "one")] == ["p0", "p1", "p2", "p3"]
    (tmp_path / "two").mkdir()
    lines(tmp_path / "two" / "test.jsonl", ROWS[0])
    lines(tmp_path / "two" / "validation.jsonl", ROWS[0])
    with pytest.raises(PromptsError, match="two has the splits validation, test: choose one with --split"):
        read_prompts(tmp_path / "two")


def test_a_directory_of_several_kinds_of_files_is_refused(tmp_path: Path) -> None:
    """A README that lists the files of each subset lifts the refusal."""
    folder = tmp_path / "mixed"
    (folder / ".cache").mkdir(parents=True)
    lines(folder / "a.jsonl", *ROWS)
    lines(folder / "more.json", {"id": "more", "prompt": "the same kind"})
    for name in ("dataset_infos.json", "LICENSE.txt", ".cache/b.csv"):
        (folder / name).write_text("{}")
    assert len(read_prompts(folder)) == 5
    (folder / "b.csv").write_text("id;prompt\n001;NA\n")
    with pytest.raises(PromptsError, match=r"mixed holds data of several kinds \(a\.jsonl, b\.csv\), of which one"):
        read_prompts(folder)
    complaint = '---\nconfigs:\n- config_name: default\n  sep: ";"\n  data_files: b.csv\n---\n'
    (folder / "README.md").write_text(complaint)
    assert read_prompts(folder) == [PromptLine(id="001", prompt="NA")]


def in_a_file(folder: Path, content: bytes) -> Path:
    (folder / "prompts.csv").write_bytes(content)
    return folder / "prompts.csv"


def in_a_directory(folder: Path, content: bytes) -> Path:
    (folder / "files").mkdir(exist_ok=True)
    (folder / "files" / "prompts.csv").write_bytes(content)
    return folder / "files"


@pytest.mark.parametrize("write", [in_a_file, in_a_directory])
@pytest.mark.parametrize("prompts", [("NA", "null", ""), ("1", "2.50", "007"), ("True", "False", "True")])
def test_csv_is_read_as_the_text_that_is_written(tmp_path: Path, write: Any, prompts: Any) -> None:
    rows = "".join(f"00{k},{prompt}\r\n" for k, prompt in enumerate(prompts) if prompt)
    path = write(tmp_path, b"\xef\xbb\xbfid,prompt\r\n" + rows.encode())
    assert [(each.id, each.prompt) for each in read_prompts(path)] == [
        (f"00{k}", prompt) for k, prompt in enumerate(prompts) if prompt
    ]


def test_an_empty_cell_of_csv_holds_nothing(tmp_path: Path) -> None:
    path = in_a_file(tmp_path, b"id,prompt,messages,system,tools\n,hi,,,\n")
    assert read_prompts(path) == [PromptLine(id=prompt_id("hi"), prompt="hi")]
    with pytest.raises(PromptsError, match="row 1: expected `prompt`"):
        read_prompts(in_a_directory(tmp_path, b'id,prompt\n1,hi\n2,""\n'))


def test_csv_files_of_a_directory_have_the_same_columns(tmp_path: Path) -> None:
    path = in_a_directory(tmp_path, b"prompt,id\nhi,1\n")
    (path / "second.csv").write_text("id,prompt\n2,ho\n")
    assert [(each.id, each.prompt) for each in read_prompts(path)] == [("1", "hi"), ("2", "ho")]
    (path / "third.csv").write_text("id,prompt,system\n3,ho,be kind\n")
    with pytest.raises(PromptsError, match=r"third\.csv has other columns than prompts\.csv"):
        read_prompts(path)


def test_csv_with_a_comma_that_is_not_quoted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptsError, match=r"prompts\.csv: its rows have more fields than its header"):
        read_prompts(in_a_file(tmp_path, b"id,prompt\n1,hello, you\n"))


@pytest.mark.parametrize(
    "content", [b'{"prompt": "p"}\n{"prompt": "q"}\n', b' \n[{"prompt": "p"},\n {"prompt": "q"}]']
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_byte_order_mark_is_passed_over(tmp_path: Path, content: bytes, pack: Any) -> None:
    path = tmp_path / ("p.json" if pack is bytes else "p.json.gz")
    path.write_bytes(pack(b"\xef\xbb\xbf" + content))
    assert [each.prompt for each in read_prompts(path)] == ["p", "q"]


def test_a_name_that_is_no_path_is_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*names: Any, **options: Any) -> Dataset | DatasetDict:
        asked.append((*names, options))
        rows = Dataset.from_list(ROWS)
        return rows if options["split"] else DatasetDict(test=rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(read_prompts("trl-lib/ultrafeedback-prompt")) == 4
    assert len(read_prompts(Path("gsm8k"), PromptOptions(subset="main", split="test[:4]"))) == 4
    assert asked == [
        ("trl-lib/ultrafeedback-prompt", None, {"split": None}),
        ("gsm8k", "main", {"split": "test[:4]"}),
    ]


def test_a_hub_that_is_out_of_reach_is_one_plain_line() -> None:
    with pytest.raises(PromptsError, match=r"org/name: no such file or directory, nor a dataset .* Hub: Couldn't"):
        read_prompts("org/name")


@pytest.mark.parametrize("name", ["prompts.jsonl", "data/prompts.parquet", "~/prompts", "/org/name", "a/b/c"])
def test_a_mistyped_path_is_not_looked_for_on_the_hub(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(PromptsError, match=r"no such file or directory$"):
        read_prompts(name)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("p.jsonl", b'{"prompt": "p"}\n{"prompt"\n', "p.jsonl, line 2: not JSON"),
        ("p.json", b'[{"prompt": "p"},\n\n', "p.json, line 3: not JSON: a file that begins with"),
        (
            "p.jsonl",
            b'["p"]\n{"prompt": "p"}\n',
            "p.jsonl, line 2: not JSON: .* in JSON lines each line is an object",
        ),
        ("p.jsonl", b'{"prompt": "p"}\n["p"]\n', "p.jsonl, line 2: expected an object with `prompt`"),
        ("p.jsonl", b"\xff\xfe[\x00", "p.jsonl, line 1: not JSON: expected an object on each line"),
        ("p.jsonl.gz", b"plain", "p.jsonl.gz is no whole gzip file"),
        ("p.jsonl.gz", gzip.compress(b'{"prompt": "p"}\n' * 99)[:-9], "p.jsonl.gz is no whole gzip file"),
        ("p.parquet", b"plain", "p.parquet is no parquet file: "),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptsError, match=complaint) as caught:
        read_prompts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_json_lines_are_read_without_the_datasets_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert not hasattr(sources, "load_dataset")
    assert not hasattr(sources, "datasets")
    assert len(read_prompts(lines(tmp_path / "p.jsonl", *ROWS))) == 4


def test_columns_of_a_tsv_file_are_divided_by_tabs(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("id\tprompt\n007\tsay red, blue\n")
    assert list(sources.placed_rows(tmp_path / "p.tsv")) == [("row 0", {"id": "007", "prompt": "say red, blue"})]
