"""Refused work: a little costs nothing, much of it is slowed down, and all is forgiven in time."""

from pad_teacher.runtime.refused_time import FREE_SECONDS, MAX_REMEMBERED, SHARE, RefusedTime


def test_a_little_refused_work_has_no_pause() -> None:
    refused = RefusedTime()
    assert refused.pause_after("one", 1.0, 0.0) == 0
    refused.add("one", FREE_SECONDS, 0.0)
    assert refused.pause_after("one", 1.0, 0.0) == 0


def test_pauses_leave_a_share_of_the_thread() -> None:
    refused = RefusedTime()
    for _ in range(2):
        refused.add("greedy", FREE_SECONDS, 0.0)
    turn = 0.004
    pause = refused.pause_after("greedy", turn, 0.0)
    assert abs(turn / (turn + pause) - SHARE) < 1e-9
    assert refused.pause_after("polite", turn, 0.0) == 0


def test_refused_work_is_forgiven_at_its_share() -> None:
    refused = RefusedTime()
    refused.add("one", FREE_SECONDS + 1, 100.0)
    forgiven = 100.0 + 1 / SHARE
    assert refused.pause_after("one", 1.0, forgiven - 0.1) > 0
    assert refused.pause_after("one", 1.0, forgiven + 0.1) == 0


def test_owners_whose_refusals_are_forgiven_are_forgotten() -> None:
    refused = RefusedTime()
    for number in range(MAX_REMEMBERED):
        refused.add(f"job{number}", 0.01, 0.0)
    refused.add("greedy", 10, 1.0)
    assert len(refused._debts) == 1  # pyright: ignore[reportPrivateUsage]
    assert refused.pause_after("greedy", 1.0, 1.0) > 0
