"""Files that change, vanish or are written twice while real processes use them."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from pad_student.storage import jsonl
from pad_teacher.admission.keys import add_key
from pad_wire import Response, SampledSet, ScoredSet
from support.processes import TeacherProcess, start_student, student, teacher_process

ONE = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}
COUNT = 300


def sets_file(path: Path, count: int = COUNT) -> Path:
    responses = [Response(text="a" * 40), Response(text="b")]
    sets = [SampledSet(id=f"s{k}", prompt=f"say {k}", responses=responses) for k in range(count)]
    path.write_text("".join(each.model_dump_json(exclude_none=True) + "\n" for each in sets))
    return path


def in_place(weights: Path, other: Path) -> None:
    """As cp and rsync --inplace write: the file is the same one, with other bytes."""
    with weights.open("r+b") as file:
        file.write(other.read_bytes())


def renamed(weights: Path, other: Path) -> None:
    other.replace(weights)


def removed(weights: Path, _: Path) -> None:
    weights.unlink()


@pytest.mark.parametrize("change", [in_place, renamed, removed])
def test_weights_that_change_while_served_change_no_number(
    tiny_directory: Path, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    served, other = shutil.copytree(tiny_directory, tmp_path / "served"), tmp_path / "other.safetensors"
    weights = {name: value * 1.5 for name, value in load_file(served / "model.safetensors").items()}
    save_file(weights, other, metadata={"format": "pt"})
    with teacher_process(served, tmp_path / "log", "--cache-bytes", "0") as teacher:
        teacher.wait_until_ready()
        before = teacher.http.post("/v1/score", json=ONE)
        change(served / "model.safetensors", other)
        assert before.status_code == 200
        assert teacher.http.post("/v1/score", json=ONE).content == before.content


def tokens_today(teacher: TeacherProcess) -> int:
    return int(teacher.http.get("/v1/usage").json()["key"]["tokens_today"])


def moved(data: Path) -> None:
    shutil.move(data / "usage.sqlite3", data / "old.sqlite3")


def emptied(data: Path) -> None:
    (data / "usage.sqlite3").write_bytes(b"")


@pytest.mark.parametrize("harm", [moved, emptied])
def test_the_days_use_outlives_its_file(tiny_directory: Path, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    key, data = add_key(tmp_path / "keys", "lab", tokens_per_day=10_000), tmp_path / "data"
    options = ("--keys", str(tmp_path / "keys"), "--data", str(data), "--cache-bytes", "0")
    with teacher_process(tiny_directory, tmp_path / "log", *options) as teacher:
        teacher.wait_until_ready()
        teacher.http.headers["Authorization"] = f"Bearer {key}"
        assert teacher.http.post("/v1/score", json=ONE).status_code == 200
        time.sleep(1.5)  # the use is written once a second
        harm(data)
        assert teacher.http.post("/v1/score", json=ONE).status_code == 200
        used = tokens_today(teacher)
        time.sleep(1.5)
        assert teacher.stop() == 0
    with teacher_process(tiny_directory, tmp_path / "log2", *options) as teacher:
        teacher.wait_until_ready()
        teacher.http.headers["Authorization"] = f"Bearer {key}"
        assert tokens_today(teacher) == used > 0


def test_two_runs_never_write_one_output(shared_teacher: TeacherProcess, tmp_path: Path) -> None:
    sets, out = sets_file(tmp_path / "sets.jsonl"), tmp_path / "scored.jsonl"
    arguments: list[Any] = ["score", "--teacher", shared_teacher.url, "--sets", sets, "--out", out]
    runs = [start_student(*arguments) for _ in range(2)]
    said = [run.communicate(timeout=120)[1] for run in runs]
    refused = [words for run, words in zip(runs, said, strict=True) if run.returncode]
    for words in refused:
        assert "another pad-student" in words.splitlines()[-1]
    assert len(refused) < 2
    assert sorted(each.id for each in jsonl.read(out, ScoredSet)) == sorted(f"s{k}" for k in range(COUNT))


@pytest.mark.parametrize(
    ("content", "url"),
    [
        ("a diary, without an end", "http://127.0.0.1:9"),
        ('{"id":"a","prompt":"p","responses":["r"]}', None),
        ("\x00", None),
    ],
)
def test_an_output_that_is_not_ours_stays_as_it_is(
    shared_teacher: TeacherProcess, tmp_path: Path, content: str, url: str | None
) -> None:
    sets, out = sets_file(tmp_path / "sets.jsonl", 2), tmp_path / "notes.txt"
    out.write_text(content)
    ran = student("score", "--teacher", url or shared_teacher.url, "--patience", 1, "--sets", sets, "--out", out)
    assert ran.returncode == 1
    assert out.read_text() == content
    assert "Traceback" not in ran.stderr
