"""Sets that the teacher refuses are left out and counted, or end the run, as the settings say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pad_student.commands import score
from pad_student.commands.settings import ScoreSettings
from pad_student.storage import jsonl
from pad_student.teacher.client import Teacher, TeacherRefused
from pad_student.teacher.errors import TooManyRefused
from pad_student.teacher.requests.refusals import Refusals
from pad_wire import Response, SampledSet, ScoredSet
from support.fake_teacher import FakeTeacherService, error

Refuses = Callable[[int], str | None]


def sampled(count: int) -> list[SampledSet]:
    responses = [Response(text="yes"), Response(text="no")]
    return [SampledSet(id=f"s{k}", prompt=f"question {k}", responses=responses) for k in range(count)]


def choosy(refuses: Refuses) -> FakeTeacherService:
    """A teacher that refuses some sets by their number, and the whole request with them."""
    fake = FakeTeacherService()
    answer = fake.answer

    def look(request: httpx.Request) -> httpx.Response:
        sets = json.loads(request.content)["sets"] if request.content else []
        codes = [code for each in sets if (code := refuses(int(each["id"][1:])))]
        if not codes:
            return answer(request)
        fake.requests.append(request)
        return error(422, codes[0])(request)

    fake.transport = httpx.MockTransport(look)
    return fake


def scores(refuses: Refuses, count: int, *how: Any) -> tuple[list[str], Refusals]:
    refusals = Refusals(*how)
    with Teacher("http://teacher.test", transport=choosy(refuses).transport) as teacher:
        return [each.id for each in teacher.score_stream(sampled(count), refusals=refusals)], refusals


@pytest.mark.parametrize("code", ["template_refused", "too_long", "body_too_large"])
def test_a_refused_set_is_left_out_and_counted(code: str) -> None:
    ids, refusals = scores(lambda k: code if k == 13 else None, 40, "skip", 0.1)
    assert ids == [f"s{k}" for k in range(40) if k != 13]
    assert refusals.counts == {code: 1}
    assert refusals.note() == f"; 1 sets refused by the teacher ({code} 1)"


def test_with_stop_the_first_refusal_ends_the_run() -> None:
    with pytest.raises(TeacherRefused) as caught:
        scores(lambda k: "template_refused" if k == 13 else None, 40, "stop")
    assert not isinstance(caught.value, TooManyRefused)


@pytest.mark.parametrize("code", ["unauthorized", "invalid_request", "too_many_options"])
def test_what_refuses_every_set_is_never_skipped(code: str) -> None:
    with pytest.raises(TeacherRefused) as caught:
        scores(lambda k: code, 40, "skip", 1.0)
    assert not isinstance(caught.value, TooManyRefused)


def test_more_than_the_share_ends_the_run_with_the_reasons() -> None:
    refuses: Refuses = lambda k: ("too_long", "template_refused", None, None)[k % 4]  # noqa: E731
    counts = r"\d+ of \d+ sets \(template_refused \d+, too_long \d+\)"
    with pytest.raises(TooManyRefused, match=rf"{counts}, and most_refused is 0\.1; the first: .*because"):
        scores(refuses, 200, "skip", 0.1)


def test_a_few_refusals_at_the_start_do_not_end_a_run() -> None:
    ids, refusals = scores(lambda k: "too_long" if k < 5 else None, 100, "skip", 0.1)
    assert len(ids) == 95
    refusals.check(100)
    with pytest.raises(TooManyRefused):
        refusals.check(20)


def scoring(folder: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses, **changes: Any) -> FakeTeacherService:
    sets = folder / "sets.jsonl"
    sets.write_text("".join(each.model_dump_json() + "\n" for each in sampled(200)))
    fake = choosy(refuses)
    monkeypatch.setattr(score, "connect", lambda *_: Teacher("http://teacher.test", transport=fake.transport))
    how: Any = {"teacher": ["http://teacher.test"], "sets": sets, "out": folder / "scored.jsonl", **changes}
    score.run(ScoreSettings(**how))
    return fake


def test_a_long_set_late_in_a_file_does_not_end_its_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    scoring(tmp_path, monkeypatch, lambda k: "too_long" if k == 150 else None)
    assert "199 scored sets, 199 of them new" in (said := capsys.readouterr().err)
    assert "1 sets refused by the teacher (too_long 1)" in said
    again = scoring(tmp_path, monkeypatch, lambda k: None, truncate=True)
    asked = [each["id"] for request in again.bodies for each in request["sets"]]
    assert asked == ["s150"]
    assert len(list(jsonl.read(tmp_path / "scored.jsonl", ScoredSet))) == 200


def test_a_scored_file_says_at_its_end_if_too_much_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TooManyRefused, match=r"most_refused is 0\.01"):
        scoring(tmp_path, monkeypatch, lambda k: "too_long" if k >= 197 else None, most_refused=0.01)
    assert len(list(jsonl.read(tmp_path / "scored.jsonl", ScoredSet))) >= 190
