"""The teacher's client takes dicts and pairs, fills in rewards, and has an asynchronous twin."""

import asyncio
import inspect
import math
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pad_student import AsyncTeacher, Teacher
from pad_student.teacher import asynchronous
from support.fake_teacher import FakeTeacherService, error

PAIRS = [("why?", ["yes", "no"]), ("how?", ["so"])]


def test_dicts_and_pairs_are_scored_under_their_places() -> None:
    fake = FakeTeacherService()
    with Teacher("http://t", transport=fake.transport) as teacher:
        scored = teacher.score([*PAIRS, {"id": 7, "prompt": "p", "responses": ["r"], "column": 1}])
        chosen = [each.id for each in teacher.selection(PAIRS)]
    assert [each.id for each in scored] == ["0", "1", "7"]
    assert chosen == ["0", "1"]
    assert {name for body in fake.bodies for each in body["sets"] for name in each} == {"id", "prompt", "responses"}


@pytest.mark.parametrize(("alpha", "wanted"), [(None, None), (0, -2.0), (0.8, 0.2 * -2 + 0.8 * math.log(4 / 7))])
def test_a_reward_is_filled_in_if_alpha_is_given(alpha: Any, wanted: Any) -> None:
    (scored, _) = Teacher("http://t", transport=FakeTeacherService().transport).score(PAIRS, alpha=alpha)
    reward = scored.responses[0].reward
    assert reward == (wanted if wanted is None else pytest.approx(wanted))


def test_what_a_teacher_shows_of_itself_has_no_key() -> None:
    teacher = Teacher("http://t", "sesame", transport=FakeTeacherService().transport)
    assert repr(teacher) == "Teacher('http://t', tokens_scored=0)"
    teacher.score(PAIRS)
    assert repr(teacher) == "Teacher('http://t', fingerprint='fp-1', tokens_scored=6)"
    assert repr(AsyncTeacher("http://t", key="sesame")) == "AsyncTeacher('http://t', tokens_scored=0)"


def test_the_asynchronous_teacher_has_every_method() -> None:
    public = {name for name in dir(Teacher) if not name.startswith("_")}
    assert public <= {name for name in dir(AsyncTeacher) if not name.startswith("_")}
    awaited = ("model", "usage", "score", "likelihood", "token_logprobs", "close")
    assert all(inspect.iscoroutinefunction(getattr(AsyncTeacher, name)) for name in awaited)


def test_the_asynchronous_teacher_is_bound_to_no_event_loop() -> None:
    """It knows anyio alone, so it runs on trio too."""
    source = inspect.getsource(asynchronous)
    imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
    assert "anyio" in imported
    assert not {"asyncio", "trio", "sniffio"} & imported


def test_the_asynchronous_teacher_scores_and_streams() -> None:
    fake = FakeTeacherService(error(503, "not_ready"))

    async def use() -> list[Any]:
        async with AsyncTeacher("http://t", transport=fake.transport, patience=30) as teacher:
            card = await teacher.model()
            whole = await teacher.score(PAIRS, alpha=0.8)
            streamed = [each async for each in teacher.score_stream(PAIRS, alpha=0.8)]
            chosen = [each.id async for each in teacher.selection(PAIRS)]
            return [card.id, whole == streamed, chosen, teacher.fingerprint]

    assert asyncio.run(use()) == ["fake", True, ["0", "1"], "fp-1"]


def test_a_cancelled_stream_ends_with_the_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def slowly(*_: Any) -> Iterator[Any]:
        asked.wait(10)
        yield from ()

    monkeypatch.setattr(Teacher, "score_stream", slowly)

    async def use() -> None:
        try:
            await asyncio.wait_for(anext(AsyncTeacher("http://t").score_stream(PAIRS)), 0.05)
        finally:
            asked.set()

    with pytest.raises(TimeoutError):
        asyncio.run(use())


def test_a_retry_prints_nothing_on_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    fake = FakeTeacherService(error(503, "not_ready"), error(503, "not_ready"))
    Teacher("http://t", transport=fake.transport).score(PAIRS)
    assert capsys.readouterr().out == ""
