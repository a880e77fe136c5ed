from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.fair_queue import FairQueue


def test_a_greedy_job_and_a_polite_one_are_served_in_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("", "greedy", "g", 10)
    queue.pop(200)
    for _ in range(5):
        queue.push("", "polite", "p", 10)
    assert queue.pop(100).count("p") == 5


def test_shares_are_of_tokens_and_not_of_requests() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("", "large", "l", 50)
        queue.push("", "small", "s", 5)
    batch = queue.pop(1000)
    assert 0.8 <= batch.count("l") * 50 / (batch.count("s") * 5) <= 1.25


def test_a_key_gains_nothing_by_naming_many_jobs() -> None:
    queue: FairQueue[str] = FairQueue()
    for k in range(100):
        queue.push("many", f"job{k}", "m", 10)
        queue.push("one", "job", "o", 10)
    assert queue.pop(400).count("o") == 20


def test_an_item_larger_than_the_budget_goes_alone_rather_than_never() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("", "a", "huge", 1000)
    queue.push("", "a", "small", 1)
    assert queue.pop(10) == ["huge"]
    assert queue.pop(10) == ["small"]


def test_a_job_that_comes_back_has_no_credit_from_the_past() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(50):
        queue.push("", "busy", "b", 10)
    queue.pop(300)
    for _ in range(50):
        queue.push("", "late", "l", 10)
    assert 8 <= queue.pop(200).count("l") <= 12


items = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 50)), max_size=60)


@given(items, st.integers(1, 100), st.sets(st.integers(0, 59)))
def test_every_item_comes_out_once_or_was_discarded_and_tokens_return_to_zero(
    pushed: list[tuple[str, str, int]], budget: int, unwanted: set[int]
) -> None:
    queue: FairQueue[list[int]] = FairQueue()
    objects = [[index] for index in range(len(pushed))]
    for (key, job, cost), item in zip(pushed, objects, strict=True):
        queue.push(key, job, item, cost)
    dropped = {index for index in unwanted if index < len(pushed)}
    for index in dropped:
        key, job, _ = pushed[index]
        queue.discard(key, job, {id(objects[index])})
    out: list[int] = []
    while batch := queue.pop(budget):
        costs = [pushed[index][2] for (index,) in batch]
        assert len(batch) == 1 or sum(costs) <= budget
        out += [index for (index,) in batch]
    assert sorted(out) == sorted(set(range(len(pushed))) - dropped)
    assert queue.tokens == 0
