"""Work in steps, done at once."""

from typing import TypeVar

from pad_teacher.runtime.reading_thread import Steps

T = TypeVar("T")


def finished(steps: Steps[T]) -> T:
    """The result of the steps, after all of them."""
    while True:
        try:
            next(steps)
        except StopIteration as last:
            return last.value
