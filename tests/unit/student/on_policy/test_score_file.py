"""One round's scores on disk: what is written when, and what a later start finds again."""

from pathlib import Path

import pytest

from pad_student.on_policy.round_folder import RoundFolder, RoundRecord, fingerprint_so_far, prune
from pad_student.on_policy.score_file import ScoreFile
from pad_student.storage import jsonl
from pad_wire import SampledSet, ScoredResponse, ScoredSet, TeacherId


def sampled(identifier: str, *texts: str) -> SampledSet:
    return SampledSet(id=identifier, prompt="say", responses=list(texts or ("ab", "b")))


def scored(each: SampledSet) -> ScoredSet:
    numbers = {"log_likelihood": -2.0, "tokens": 2, "mean_log_likelihood": -1.0}
    return ScoredSet(
        id=each.id,
        prompt=each.prompt,
        responses=[ScoredResponse(**response.model_dump(), **numbers) for response in each.responses],
        teacher=TeacherId(model="fake", fingerprint="f"),
    )


def ids(path: Path) -> list[str]:
    return [each.id for each in jsonl.read(path, ScoredSet)]


def test_scores_stay_early_until_their_sets_are_committed(tmp_path: Path) -> None:
    file = ScoreFile(tmp_path / "scored.jsonl")
    file.add(scored(sampled("s0")))
    assert (ids(tmp_path / "scored.early"), ids(tmp_path / "scored.jsonl")) == (["s0"], [])
    file.commit()
    file.add(scored(sampled("s1")))
    assert (ids(tmp_path / "scored.early"), ids(tmp_path / "scored.jsonl")) == (["s0"], ["s0", "s1"])
    assert list(file.found) == ["s0", "s1"]
    file.close()
    file.remove_early()
    assert not (tmp_path / "scored.early").exists()


def test_a_later_start_finds_scores_of_both_files(tmp_path: Path) -> None:
    first = ScoreFile(tmp_path / "scored.jsonl")
    first.commit()
    first.add(scored(sampled("s0")))
    first.close()
    (tmp_path / "scored.early").write_text(scored(sampled("s1")).model_dump_json() + '\n{"id": "torn')
    second = ScoreFile(tmp_path / "scored.jsonl")
    assert list(second.found) == ["s0"]
    assert second.known(sampled("s1")) == scored(sampled("s1"))
    assert second.known(sampled("s1", "ab", "other")) is None
    assert second.known(sampled("s2")) is None
    second.close()


def test_a_score_from_the_early_file_is_not_written_there_twice(tmp_path: Path) -> None:
    (tmp_path / "scored.early").write_text(scored(sampled("s0")).model_dump_json() + "\n")
    file = ScoreFile(tmp_path / "scored.jsonl")
    known = file.known(sampled("s0"))
    assert known
    file.add(known)
    assert ids(tmp_path / "scored.early") == ["s0"]
    file.commit()
    assert ids(tmp_path / "scored.jsonl") == ["s0"]
    file.close()


@pytest.mark.parametrize("end", [ScoreFile.abandon, ScoreFile.close])
def test_nothing_is_written_after_the_end(tmp_path: Path, end: object) -> None:
    file = ScoreFile(tmp_path / "scored.jsonl")
    file.add(scored(sampled("s0")))
    end(file)  # type: ignore[operator]
    file.add(scored(sampled("s1")))
    file.commit()
    assert (ids(tmp_path / "scored.early"), ids(tmp_path / "scored.jsonl")) == (["s0"], [])
    file.close()


def test_a_round_is_found_by_any_of_its_steps(tmp_path: Path) -> None:
    folder = RoundFolder.of_step(tmp_path, 4, rank=0, most_steps=2)
    assert folder == RoundFolder(tmp_path / "000004")
    folder.begin(RoundRecord(sampled_at=2, steps=[4, 5]))
    assert (
        RoundFolder.of_step(tmp_path, 5, rank=0, most_steps=2).path.name == "000005"
    )  # its sets are not on disk yet
    folder.sets.touch()
    assert RoundFolder.of_step(tmp_path, 5, rank=0, most_steps=2) == folder
    assert RoundFolder.of_step(tmp_path, 6, rank=0, most_steps=2).path.name == "000006"
    assert folder.record == RoundRecord(sampled_at=2, steps=[4, 5])


def test_each_process_has_files_of_its_own(tmp_path: Path) -> None:
    first, second = RoundFolder(tmp_path), RoundFolder(tmp_path, 1)
    assert (first.sets.name, first.scored.name) == ("sets.jsonl", "scored.jsonl")
    assert (second.sets.name, second.unfinished_sets.name) == ("sets-1.jsonl", "sets-1.part")


def test_the_rounds_teacher_is_that_of_the_first_score(tmp_path: Path) -> None:
    assert fingerprint_so_far(tmp_path) is None
    file = ScoreFile(RoundFolder(tmp_path / "000000").scored)
    file.commit()
    file.add(scored(sampled("s0")))
    file.close()
    assert fingerprint_so_far(tmp_path) == "f"


def test_rounds_whole_before_the_oldest_checkpoint_are_removed(tmp_path: Path) -> None:
    for first in (0, 4, 8, 12):
        RoundFolder(tmp_path / f"{first:06d}").begin(RoundRecord(sampled_at=first, steps=[first]))
    (tmp_path / "settings.json").write_text("{}")
    prune(tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000004", "000008", "000012", "settings.json"]
    prune(tmp_path, 8)
    assert not (tmp_path / "000004").exists()
    prune(tmp_path, 99)
    assert (tmp_path / "000012").exists()
