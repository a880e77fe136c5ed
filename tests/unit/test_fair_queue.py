from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.fair_queue import MAX_ITEMS, FairQueue, Group, Item


def push(queue: FairQueue[Item], key: str, job: str, item: Item, cost: int) -> Group[Item]:
    group = Group.of([(item, cost)])
    queue.push(key, job, group)
    return group


def test_a_greedy_job_and_a_polite_one_are_served_in_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        push(queue, "", "greedy", "g", 10)
    queue.pop(200)
    for _ in range(5):
        push(queue, "", "polite", "p", 10)
    assert queue.pop(100).count("p") == 5


def test_shares_are_of_tokens_and_not_of_requests() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        push(queue, "", "large", "l", 50)
        push(queue, "", "small", "s", 5)
    batch = queue.pop(1000)
    assert 0.8 <= batch.count("l") * 50 / (batch.count("s") * 5) <= 1.25


def test_a_key_gains_nothing_by_naming_many_jobs() -> None:
    queue: FairQueue[str] = FairQueue()
    for k in range(100):
        push(queue, "many", f"job{k}", "m", 10)
        push(queue, "one", "job", "o", 10)
    assert queue.pop(400).count("o") == 20


def test_an_item_larger_than_the_budget_goes_alone_rather_than_never() -> None:
    queue: FairQueue[str] = FairQueue()
    push(queue, "", "a", "huge", 1000)
    push(queue, "", "a", "small", 1)
    assert queue.pop(10) == ["huge"]
    assert queue.pop(10) == ["small"]


def test_a_job_that_comes_back_has_no_credit_from_the_past() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(50):
        push(queue, "", "busy", "b", 10)
    queue.pop(300)
    for _ in range(50):
        push(queue, "", "late", "l", 10)
    assert 8 <= queue.pop(200).count("l") <= 12


def test_a_batch_is_filled_past_an_item_that_does_not_fit_and_that_item_is_first_in_the_next() -> None:
    queue: FairQueue[str] = FairQueue()
    for item, cost in [("half", 60), ("large", 90), ("small", 30), ("tiny", 10)]:
        push(queue, "", "a", item, cost)
    assert queue.pop(100) == ["half", "small", "tiny"]
    assert queue.pop(100) == ["large"]


def test_small_items_of_others_never_starve_a_large_one() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(50):
        push(queue, "", "small", "s", 10)
    push(queue, "", "large", "L", 95)
    assert "L" not in queue.pop(100)
    for _ in range(50):
        push(queue, "", "new", "n", 10)
    assert queue.pop(100) == ["L"]


def test_an_item_that_does_not_pay_takes_nothing_from_the_batch_and_nothing_from_its_job() -> None:
    queue: FairQueue[str] = FairQueue(lambda item: item != "free")
    for item in ["free", "paid", "free", "paid", "free"]:
        push(queue, "", "a", item, 10)
    push(queue, "", "b", "other", 10)
    assert queue.pop(20) == ["free", "paid", "other"]
    assert queue.tokens == 30
    assert queue.pop(20) == ["free", "paid", "free"]
    assert queue.tokens == 0
    assert not queue._root.lines


def test_an_item_that_is_passed_over_is_charged_when_it_goes_and_not_before() -> None:
    queue: FairQueue[str] = FairQueue()
    push(queue, "", "a", "first", 60)
    push(queue, "", "a", "large", 80)
    push(queue, "", "b", "b1", 40)
    push(queue, "", "b", "b2", 30)
    push(queue, "", "b", "b3", 40)
    assert queue.pop(100) == ["first", "b1"]  # by now a was given 60 and b 40
    assert queue.pop(100) == ["b2", "b3"]  # b has had 70 after its first here, so a's large one is passed over
    assert queue.pop(100) == ["large"]


def test_a_group_that_is_discarded_is_no_longer_first_although_it_was_passed_over() -> None:
    queue: FairQueue[str] = FairQueue()
    push(queue, "", "a", "half", 60)
    large = push(queue, "", "a", "large", 90)
    push(queue, "", "a", "other", 70)
    assert queue.pop(100) == ["half"]
    assert queue.discard("", "a", large) == 90
    assert queue.discard("", "a", large) == 0
    assert queue.pop(100) == ["other"]
    assert queue.tokens == 0


def test_a_batch_has_a_bounded_number_of_items_however_small_they_are() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push("", "a", Group.of((k, 1) for k in range(3 * MAX_ITEMS)))
    assert [len(queue.pop(8192)) for _ in range(4)] == [MAX_ITEMS, MAX_ITEMS, MAX_ITEMS, 0]


costs = st.lists(st.integers(1, 50), min_size=1, max_size=8)
requests = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), costs), max_size=20)


@given(requests, st.integers(1, 100), st.sets(st.integers(0, 19)), st.integers(0, 3))
def test_every_item_comes_out_once_or_was_discarded_and_tokens_return_to_zero(
    pushed: list[tuple[str, str, list[int]]], budget: int, unwanted: set[int], batches_before: int
) -> None:
    queue: FairQueue[tuple[int, int]] = FairQueue()
    groups = [Group.of(((r, k), cost) for k, cost in enumerate(costs)) for r, (_, _, costs) in enumerate(pushed)]
    for (key, job, _), group in zip(pushed, groups, strict=True):
        queue.push(key, job, group)
    out: list[tuple[int, int]] = []

    def pop() -> bool:
        batch = queue.pop(budget)
        assert len(batch) <= 1 or sum(pushed[r][2][k] for r, k in batch) <= budget
        out.extend(batch)
        return bool(batch)

    for _ in range(batches_before):
        pop()
    dropped = {item for r in unwanted if r < len(pushed) for item, _ in groups[r].items}
    for r in unwanted & set(range(len(pushed))):
        queue.discard(*pushed[r][:2], groups[r])
    while pop():
        pass
    every = {(r, k) for r, (_, _, costs) in enumerate(pushed) for k in range(len(costs))}
    assert sorted(out) == sorted(every - dropped)
    assert queue.tokens == 0
    assert not queue._root.lines


@given(st.lists(costs, max_size=20), st.integers(1, 100))
def test_the_first_item_that_a_batch_passed_over_is_the_first_of_the_next(
    pushed: list[list[int]], budget: int
) -> None:
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for r, each in enumerate(pushed):
        queue.push("", "a", Group.of(((r, k), cost) for k, cost in enumerate(each)))
    waiting = [(r, k) for r, each in enumerate(pushed) for k in range(len(each))]
    due: tuple[int, int] | None = None
    while batch := queue.pop(budget):
        assert due is None or batch[0] == due
        due = next((item for item in waiting if item not in batch), None)
        if due and waiting.index(due) == len(batch):  # nothing behind it went first: it was not passed over
            due = None
        waiting = [item for item in waiting if item not in batch]


@given(st.integers(10, 200), st.integers(1, 40))
def test_keys_that_both_wait_get_shares_that_differ_by_no_more_than_a_batch_and_an_item(
    budget: int, batches: int
) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for key, step in (("a", 7), ("b", 11)):
        queue.push(key, "x", Group.of(((key, 5 + k * step % 40), 5 + k * step % 40) for k in range(1000)))
    served = dict.fromkeys("ab", 0)
    for _ in range(batches):
        for key, cost in queue.pop(budget):
            served[key] += cost
    assert abs(served["a"] - served["b"]) <= budget + 45
