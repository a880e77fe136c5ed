"""JSON lines survive a kill, a full disk and a bad line."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pad_student.errors import InUse, JsonLinesError, OtherRun
from pad_student.storage.jsonl import Appender, read
from pad_student.storage.locks import DirectoryClaim
from pad_student.storage.run_directory import bind_to_settings
from pad_wire import Response, SampledSet


def sampled(name: str, text: str = "yes") -> SampledSet:
    return SampledSet(id=name, prompt="is it?", responses=[Response(text=text)])


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sets.jsonl"
    with Appender(path) as sets:
        sets.append(sampled("a"), sampled("b"))
    assert list(read(path, SampledSet)) == [sampled("a"), sampled("b")]


def test_the_ids_that_are_there_are_known(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    with Appender(path) as sets:
        sets.append(sampled("a"))
    with Appender(path) as sets:
        sets.append(sampled("b"))
        assert sets.held == {"a", "b"}


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_line_torn_anywhere_is_cut_off_and_whole_lines_stay(tmp_path: Path, kept: Any) -> None:
    path = tmp_path / "sets.jsonl"
    with Appender(path) as sets:
        sets.append(sampled("a"), sampled("b"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept].rstrip(b"\n"))
    with Appender(path) as sets:
        assert sets.held == {"a", "b"}
        sets.append(sampled("c"))
    assert [each.id for each in read(path, SampledSet)] == ["a", "b", "c"]


def test_a_torn_line_longer_than_a_block_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    with Appender(path) as sets:
        sets.append(sampled("a"))
    with path.open("ab") as file:
        file.write(b'{"id": "b", "prompt": "' + b"x" * 200_000)
    with Appender(path) as sets:
        assert sets.held == {"a"}


def test_a_bad_line_is_named_by_file_and_number_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_text('{"id": "a", "prompt": "p", "responses": ["r"]}\n\n{"id": "b", "prompt": "p"}\n')
    with pytest.raises(JsonLinesError, match=r"sets\.jsonl, line 3: responses: Field required") as caught:
        list(read(path, SampledSet))
    assert "\n" not in str(caught.value)


def test_an_output_that_is_something_else_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n")
    with pytest.raises(JsonLinesError, match=r"notes\.txt, line 1"):
        Appender(path)
    assert path.read_text() == "dear diary\n"


def test_a_full_disk_leaves_whole_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sets.jsonl"
    write, room = os.pwrite, [150]

    def small_disk(file: Any, data: Any, offset: Any) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = bytes(data[: room[0]])
        room[0] -= len(part)
        return write(file, part, offset)

    with Appender(path) as sets:
        sets.append(sampled("a"))
        monkeypatch.setattr(os, "pwrite", small_disk)
        with pytest.raises(JsonLinesError, match="No space left") as caught:
            sets.append(sampled("b", "x" * 500))
        assert "\n" not in str(caught.value)
        assert sets.held == {"a"}
    assert [each.id for each in read(path, SampledSet)] == ["a"]


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    with Appender(path) as sets:
        with pytest.raises(InUse, match=r"another pad-student.* writes .*sets\.jsonl"):
            Appender(path)
        sets.append(sampled("a"))
    with Appender(path) as sets:
        assert sets.held == {"a"}


def test_a_directory_is_claimed_by_one_run_at_a_time(tmp_path: Path) -> None:
    with DirectoryClaim(tmp_path), pytest.raises(InUse, match=rf"process {os.getpid()} on .* writes"):
        DirectoryClaim(tmp_path)
    with DirectoryClaim(tmp_path):
        pass


def test_a_whole_last_line_without_an_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    with Appender(path) as sets:
        sets.append(sampled("a"), sampled("b"))
    whole = path.read_bytes()
    path.write_bytes(whole.removesuffix(b"\n"))
    with Appender(path) as sets:
        assert sets.held == {"a", "b"}
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "content", ["dear diary", '{"prompt": "mine"}', '{"id": "a"}\nnotes', '{"x": 1}\n{"id": "a"']
)
def test_nothing_of_another_kind_is_cut(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(JsonLinesError, match=r"notes\.txt"):
        Appender(path)
    assert path.read_text() == content


def test_a_setting_that_is_dropped_differs_too(tmp_path: Path) -> None:
    bind_to_settings(tmp_path / "settings.json", {"seed": 0, "bf16": True, "weights_digest": "a"})
    with pytest.raises(OtherRun, match="begun with bf16 = True, which is not given now"):
        bind_to_settings(tmp_path / "settings.json", {"seed": 0, "weights_digest": "a"})
    with pytest.raises(OtherRun, match="begun without warmup_steps"):
        bind_to_settings(tmp_path / "settings.json", {"seed": 0, "bf16": True, "warmup_steps": 3})
