"""The fair queue: shares by weight, credit, and no starvation."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.admission.fair_queue import MAX_ITEMS, MAX_REMEMBERED, FairQueue, Group, Item


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


def test_keys_are_served_by_weight_and_their_jobs_alike() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("light", "x", Group.of([("light", 10)]), 1)
        queue.push("heavy", "x", Group.of([("heavy x", 10)]), 3)
        queue.push("heavy", "y", Group.of([("heavy y", 10)]), 3)
    batch = queue.pop(800)
    assert [batch.count(name) for name in ("light", "heavy x", "heavy y")] == [20, 30, 30]


def test_a_weight_that_changes_holds_from_the_next_request_on() -> None:
    queue: FairQueue[str] = FairQueue()
    for weight in (1, 3):
        for _ in range(100):
            queue.push("a", "x", Group.of([("a", 10)]), weight)
            push(queue, "b", "x", "b", 10)
    assert queue.pop(400).count("a") == 30


def test_to_wait_with_one_request_at_a_time_gains_nothing() -> None:
    queue: FairQueue[str] = FairQueue()
    served = {"single": 0, "many": 0}
    for _ in range(400):
        queue.push("many", "x", Group.of([("many", 10)] * 40), 3)
    waiting = False
    for _ in range(400):
        if not waiting:
            queue.push("single", "x", Group.of([("single", 200)]), 1)
            waiting = True
        for item in queue.pop(400):
            served[item] += 200 if item == "single" else 10
            waiting = waiting and item != "single"
    assert 2.9 <= served["many"] / served["single"] <= 3.1


def test_overuse_is_made_up_for_once_others_had_as_much() -> None:
    queue: FairQueue[str] = FairQueue()
    push(queue, "greedy", "x", "g", 1000)
    queue.pop(1)
    for _ in range(400):
        push(queue, "other", "x", "o", 10)
    queue.pop(2000)
    for _ in range(20):
        push(queue, "greedy", "x", "g", 10)
    assert queue.pop(200).count("g") == 10


def test_unused_share_goes_first_up_to_the_credit() -> None:
    queue: FairQueue[str] = FairQueue(credit=100)
    push(queue, "polite", "x", "p", 10)
    queue.pop(10)
    for _ in range(400):
        push(queue, "greedy", "x", "g", 10)
    queue.pop(2000)
    for _ in range(50):
        push(queue, "polite", "x", "p", 10)
    assert queue.pop(100).count("p") == 10
    assert queue.pop(200).count("p") == 10


@given(st.integers(0, 500), st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=60))
def test_coming_and_going_gains_the_credit_at_most(credit: int, visits: list[tuple[int, int]]) -> None:
    """Whatever the pattern of requests and pauses."""
    queue: FairQueue[str] = FairQueue(credit)
    queue.push("steady", "x", Group.of([("steady", 10)] * 4000))
    served = Counter[str]()
    for pause, requests in visits:
        for _ in range(requests):
            push(queue, "coming", "x", "coming", 10)
        for _ in range(pause):
            served.update(queue.pop(20))
    while ("coming", "x") in queue.jobs:
        served.update(queue.pop(20))
    assert 10 * served["coming"] <= 10 * served["steady"] + credit + 30


def test_a_bounded_number_of_idle_lines_is_remembered() -> None:
    queue: FairQueue[str] = FairQueue()
    for k in range(5 * MAX_REMEMBERED):
        push(queue, "", f"job{k}", "j", 10)
        assert queue.pop(100) == ["j"]
    assert queue.remembered <= MAX_REMEMBERED + 1  # the key, and its jobs


def test_an_item_larger_than_the_budget_goes_alone() -> None:
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


def test_an_item_that_does_not_fit_is_first_in_the_next_batch() -> None:
    """And its own batch is filled with items that do."""
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


def test_an_item_that_does_not_pay_costs_nobody_anything() -> None:
    queue: FairQueue[str] = FairQueue(pays=lambda item: item != "free")
    for item in ["free", "paid", "free", "paid", "free"]:
        push(queue, "", "a", item, 10)
    push(queue, "", "b", "other", 10)
    assert queue.pop(20) == ["free", "paid", "other"]
    assert queue.tokens == 30
    assert queue.pop(20) == ["free", "paid", "free"]
    assert queue.tokens == 0
    assert not queue.jobs


def test_an_item_passed_over_is_charged_when_it_goes() -> None:
    queue: FairQueue[str] = FairQueue()
    push(queue, "", "a", "first", 60)
    push(queue, "", "a", "large", 80)
    push(queue, "", "b", "b1", 40)
    push(queue, "", "b", "b2", 30)
    push(queue, "", "b", "b3", 40)
    assert queue.pop(100) == ["first", "b1"]  # by now a was given 60 and b 40
    assert queue.pop(100) == ["b2", "b3"]  # b has had 70 after its first here, so a's large one is passed over
    assert queue.pop(100) == ["large"]


def test_a_discarded_group_loses_its_first_place() -> None:
    """The group was passed over, and would have begun the next batch."""
    queue: FairQueue[str] = FairQueue()
    push(queue, "", "a", "half", 60)
    large = push(queue, "", "a", "large", 90)
    push(queue, "", "a", "other", 70)
    assert queue.pop(100) == ["half"]
    assert queue.discard("", "a", large) == 90
    assert queue.discard("", "a", large) == 0
    assert queue.pop(100) == ["other"]
    assert queue.tokens == 0


def test_a_batch_has_a_bounded_number_of_items() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push("", "a", Group.of((k, 1) for k in range(3 * MAX_ITEMS)))
    assert [len(queue.pop(8192)) for _ in range(4)] == [MAX_ITEMS, MAX_ITEMS, MAX_ITEMS, 0]


costs = st.lists(st.integers(1, 50), min_size=1, max_size=8)
requests = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), costs), max_size=20)


@given(requests, st.integers(1, 100), st.sets(st.integers(0, 19)), st.integers(0, 3))
def test_every_item_comes_out_once_or_was_discarded(
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
    assert not queue.jobs


@given(st.lists(costs, max_size=20), st.integers(1, 100))
def test_the_first_item_passed_over_begins_the_next_batch(pushed: list[list[int]], budget: int) -> None:
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for r, each in enumerate(pushed):
        queue.push("", "a", Group.of(((r, k), cost) for k, cost in enumerate(each)))
    waiting = [(r, k) for r, each in enumerate(pushed) for k in range(len(each))]
    due: tuple[int, int] | None = None
    while batch := queue.pop(budget):
        assert due is None or batch[0] == due
        due = next((item for item in waiting if item not in batch), None)
        if due and waiting.index(due) == len(batch):  # nothing after it went first: it was not passed over
            due = None
        waiting = [item for item in waiting if item not in batch]


@given(st.integers(10, 200), st.integers(1, 40))
def test_waiting_keys_differ_by_a_batch_and_an_item_at_most(budget: int, batches: int) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for key, step in (("a", 7), ("b", 11)):
        queue.push(key, "x", Group.of(((key, 5 + k * step % 40), 5 + k * step % 40) for k in range(1000)))
    served = dict.fromkeys("ab", 0)
    for _ in range(batches):
        for key, cost in queue.pop(budget):
            served[key] += cost
    assert abs(served["a"] - served["b"]) <= budget + 45


weights = st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0, 10.0])
sizes = st.lists(st.integers(1, 60), min_size=1, max_size=6)


@given(st.lists(st.tuples(weights, sizes), min_size=2, max_size=5), st.integers(1, 300))
def test_waiting_keys_get_tokens_by_weight_within_an_item(keys: list[tuple[float, list[int]]], turns: int) -> None:
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for k, (weight, sizes) in enumerate(keys):
        costs = [sizes[turn % len(sizes)] for turn in range(turns)]
        queue.push(str(k), "x", Group.of(((k, cost), cost) for cost in costs), weight)
    served = [0.0] * len(keys)
    for _ in range(turns):
        ((k, cost),) = queue.pop(1)  # one item at a time
        served[k] += cost / keys[k][0]
    largest = max(max(sizes) / weight for weight, sizes in keys)
    assert max(served) - min(served) <= largest + 1e-6


@given(st.lists(weights, min_size=2, max_size=5), st.integers(20, 200), st.integers(0, 3))
def test_nobody_starves_however_light_its_weight(others: list[float], budget: int, large: int) -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("light", "x", Group.of([("light", (1, 50, budget, 3 * budget)[large])]), 0.1)
    for _ in range(2000):
        for k, weight in enumerate(others):
            queue.push(str(k), "x", Group.of([("other", 10)]), weight)
        if "light" in queue.pop(budget):
            return
    raise AssertionError("the light key was never served")
