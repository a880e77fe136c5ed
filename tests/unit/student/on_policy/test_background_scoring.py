"""One round's scores: written when their sets are, asked for once, and nothing more after a stop."""

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pad_student.on_policy.background_scoring import BackgroundScorer
from pad_student.on_policy.costs import Costs
from pad_student.storage import jsonl
from pad_student.teacher.errors import TeacherUnreachable
from pad_student.teacher.requests.busy import Busy
from pad_wire import SampledSet, ScoredSet
from support.student_runs import RuleTeacher, scored
from support.waiting import wait, wait_until


def sampled(count: int) -> list[SampledSet]:
    return [SampledSet(id=f"s{k}", prompt="say", responses=["ab", "b"]) for k in range(count)]


@pytest.mark.parametrize(("text", "asked"), [("b", []), ("c", ["s0"])])
def test_a_score_from_before_a_kill_is_reused_for_the_same_set(tmp_path: Path, text: str, asked: list[str]) -> None:
    before = SampledSet(id="s0", prompt="say", responses=["ab", "b"])
    (tmp_path / "scored.early").write_text(scored(before).model_dump_json() + "\n")
    teacher = RuleTeacher()
    scoring = BackgroundScorer(teacher.score_stream, tmp_path / "scored.jsonl")
    scoring.feed([SampledSet(id="s0", prompt="say", responses=["ab", text])])
    wait_until(lambda: (tmp_path / "scored.early").read_text().count("\n") == 1 + len(asked))  # for the next kill
    scoring.complete()
    found = scoring.score_of("s0")
    assert found
    assert [response.text for response in found.responses] == ["ab", text]
    assert teacher.scored == asked


def test_scores_are_written_only_once_their_sets_are_on_disk(tmp_path: Path) -> None:
    asked = Event()

    def stream(sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        for each in sets:
            yield scored(each)
            asked.set()

    scoring = BackgroundScorer(stream, tmp_path / "scored.jsonl")
    scoring.feed(sampled(2))
    wait(asked)
    assert list(jsonl.read(tmp_path / "scored.jsonl", ScoredSet)) == []
    scoring.complete()
    scoring.join()
    assert [each.id for each in jsonl.read(tmp_path / "scored.jsonl", ScoredSet)] == ["s0", "s1"]


def test_a_finished_part_is_scored_before_more_is_fed(tmp_path: Path) -> None:
    def in_one_request(sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        yield from [scored(each) for each in sets]  # as a request that is not full yet

    scoring = BackgroundScorer(in_one_request, tmp_path / "scored.jsonl")
    first, *more = sampled(3)
    scoring.feed([first])
    scoring.finish_part()
    assert scoring.score_of("s0")
    assert list(jsonl.read(tmp_path / "scored.jsonl", ScoredSet)) == []
    scoring.feed(more)
    scoring.complete()
    scoring.join()
    assert [each.id for each in jsonl.read(tmp_path / "scored.jsonl", ScoredSet)] == ["s0", "s1", "s2"]


def test_a_failure_is_known_before_all_sets_are_fed(tmp_path: Path) -> None:
    scoring = BackgroundScorer(RuleTeacher(patience=1).score_stream, tmp_path / "scored.jsonl")
    scoring.feed(sampled(2))
    scoring.finish_part()
    with pytest.raises(TeacherUnreachable):
        scoring.score_of("s1")
    assert scoring.score_of("s0")
    scoring.stop()


def test_if_one_rounds_scoring_fails_the_next_asks_nothing(tmp_path: Path) -> None:
    def fails(sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        raise TeacherUnreachable("away")

    first = BackgroundScorer(fails, tmp_path / "first")
    second = BackgroundScorer(lambda sets: pytest.fail("it asked"), tmp_path / "second", before=first)
    for each in (first, second):
        each.feed(sampled(1))
        each.complete()
        with pytest.raises(TeacherUnreachable):
            each.score_of("s0")


def test_a_stopped_scoring_writes_nothing_more(tmp_path: Path) -> None:
    gate, out = Event(), tmp_path / "scored.jsonl"

    def stream(sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        for each in sets:
            wait(gate)
            yield scored(each)

    scoring = BackgroundScorer(stream, out)
    scoring.feed(sampled(2))
    scoring.stop()
    gate.set()
    scoring.join()
    assert out.read_bytes() == b""


def test_a_stopped_scoring_asks_for_nothing_more(tmp_path: Path) -> None:
    gate = Event()
    asked: list[str] = []

    def stream(sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        for each in sets:
            asked.append(each.id)
            wait(gate)
            yield scored(each)

    first = BackgroundScorer(stream, tmp_path / "first.jsonl")
    second = BackgroundScorer(stream, tmp_path / "second.jsonl", before=first)
    for scoring in (first, second):
        scoring.feed(sampled(3))
    wait_until(lambda: asked == ["s0"])
    for scoring in (first, second):
        scoring.stop()
    gate.set()
    second.join()
    assert asked == ["s0"]


def test_a_scoring_whose_disk_is_full_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    scoring = BackgroundScorer(RuleTeacher().score_stream, tmp_path / "scored.jsonl")
    scoring.feed(sampled(1))
    wait_until(lambda: (tmp_path / "scored.early").exists() and bool((tmp_path / "scored.early").read_bytes()))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(jsonl.JsonLinesError):
        scoring.complete()
    with pytest.raises(jsonl.JsonLinesError):
        scoring.join()


class Counted:
    def __init__(self, busy: Busy) -> None:
        self.busy = busy
        self.tokens_scored = 0

    @property
    def busy_seconds(self) -> float:
        return self.busy.seconds


def test_both_sides_seconds_add_up_to_what_went_by() -> None:
    time = [0.0]
    busy = Busy(lambda: time[0])
    teacher = Counted(busy)
    costs = Costs(teacher, lambda: time[0])
    costs.begin()
    with costs.phase("sampled"):
        time[0] += 2
    with busy.inside():
        with busy.inside(), costs.phase("waited_for_teacher"):
            time[0] += 3
        time[0] += 4
        teacher.tokens_scored += 50
    assert costs.take() == {
        "seconds/sampled": 2,
        "seconds/waited_for_teacher": 3,
        "seconds/trained": 4,
        "teacher_seconds/scored": 7,
        "teacher_seconds/waited_for_student": 2,
        "teacher_tokens": 50,
    }
    assert set(costs.take().values()) == {0}
    assert costs.share("waited_for_teacher") == pytest.approx(1 / 3)
    assert costs.share("nothing") is None
