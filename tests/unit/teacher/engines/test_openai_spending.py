"""The tokens that an upstream may count in a day: they outlive the process, and several processes share them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pad_teacher.engines.openai.spending import FILE, Spending
from pad_teacher.errors import CannotServe, Refusal

NOON = 1_800_014_400.0 + 43_200 - 1_800_014_400 % 86_400


books: list[Spending] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close every book of a test after it: an open one is a warning from Python 3.13 on."""
    yield
    while books:
        books.pop().close()


def spending(folder: Path | None, limit: int = 100, now: float = NOON) -> Spending:
    books.append(Spending(limit, folder, lambda: now))
    return books[-1]


def test_the_limit_is_of_all_tokens_of_the_day() -> None:
    book = spending(None)
    book.reserve(60)
    with pytest.raises(Refusal) as refused:
        book.reserve(41)
    assert refused.value.detail.code == "quota_exceeded"
    assert refused.value.retry_after_s == 43_200
    book.reserve(40)
    assert book.today == 100


def test_what_was_counted_replaces_the_estimate() -> None:
    book = spending(None)
    book.settle(book.reserve(60), 60, 12)
    assert book.today == 12


def test_a_process_that_was_killed_has_counted(tmp_path: Path) -> None:
    spending(tmp_path).reserve(70)  # never settled, never closed
    assert spending(tmp_path).today == 70


def test_two_processes_share_the_limit(tmp_path: Path) -> None:
    one, other = spending(tmp_path), spending(tmp_path)
    one.reserve(60)
    with pytest.raises(Refusal):
        other.reserve(60)


def test_a_new_day_begins_at_midnight_utc(tmp_path: Path) -> None:
    spending(tmp_path).reserve(100)
    spending(tmp_path, now=NOON + 43_200).reserve(100)


def test_a_file_that_is_none_cannot_serve(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(CannotServe, match="cannot keep"):
        spending(tmp_path)
