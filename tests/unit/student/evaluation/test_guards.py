"""Guards next to a score: length, finished share, distinct pairs of words, and repetition."""

import pytest

from pad_student.evaluation.guards import guards
from pad_wire import Response


def test_guards_of_two_responses_are_as_counted_by_hand() -> None:
    found = guards([Response(text="a b a b a b"), Response(text="c d", finished=False)])
    assert found == {
        "mean_characters": 7,
        "median_characters": 7,
        "finished": 0.5,
        "distinct_2": 3 / 6,
        "repeated_4": 0.5,
    }


@pytest.mark.parametrize("text", ["", "one", "one two", "one two three four five"])
def test_without_repetition_nothing_is_repeated(text: str) -> None:
    found = guards([Response(text=text)])
    assert (found["distinct_2"], found["repeated_4"]) == (1, 0)
