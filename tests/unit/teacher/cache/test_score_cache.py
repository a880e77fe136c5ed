"""The score cache: exact, bounded, and never a reason to fail."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from structlog.testing import capture_logs

from pad_teacher.cache import score_cache
from pad_teacher.cache.score_cache import FILE
from pad_teacher.engines.queries import FloatArray

MEGABYTE = 2**20
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows = arrays(np.float32, st.integers(0, 40), elements=finite)


MADE: list[score_cache.ScoreCache] = []


class ScoreCache(score_cache.ScoreCache):
    """Remembers itself to be closed: from Python 3.13 on, a connection left open is a warning, so an error here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        MADE.append(self)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def key(number: int) -> bytes:
    return number.to_bytes(8, "big") * 4


def row(number: int, tokens: int = 4) -> FloatArray:
    return np.full(tokens, -number, np.float32)


@pytest.fixture
def cache() -> ScoreCache:
    return ScoreCache(None, MEGABYTE)


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@given(st.dictionaries(st.binary(min_size=32, max_size=32), rows, max_size=20))
@settings(deadline=None)
def test_what_comes_out_is_bit_for_bit_what_went_in(scored: dict[bytes, FloatArray]) -> None:
    cache = ScoreCache(None, MEGABYTE)
    cache.put(scored.items())
    found = cache.get([*scored, b"?" * 32])
    assert {key: value.tobytes() for key, value in found.items()} == {
        key: value.tobytes() for key, value in scored.items()
    }
    assert all(value.dtype == np.float32 for value in found.values())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_never_kept(cache: ScoreCache, value: float) -> None:
    cache.put([(key(1), np.array([-1, value], np.float32)), (key(2), row(2))])
    assert list(cache.get([key(1), key(2)])) == [key(2)]


def test_two_keys_that_begin_alike_are_told_apart(cache: ScoreCache) -> None:
    one, other = b"same-id-" + b"1" * 24, b"same-id-" + b"2" * 24
    cache.put([(one, row(1))])
    assert cache.get([other]) == {}


def test_the_least_recently_used_rows_are_evicted_first(tmp_path: Path) -> None:
    """And the size stays within its limit."""
    cache = ScoreCache(tmp_path, MEGABYTE)
    cache.put([(key(0), row(0, 1000))])
    for number in range(1, 1000):
        cache.put([(key(number), row(number, 1000))])
        assert cache.bytes <= MEGABYTE
        if number % 10 == 0:
            assert key(0) in cache.get([key(0)])
    assert key(1) not in cache.get([key(1)])
    assert key(999) in cache.get([key(999)])
    cache.close()
    assert (tmp_path / FILE).stat().st_size < 1.1 * MEGABYTE


def test_a_smaller_limit_makes_a_file_smaller(tmp_path: Path) -> None:
    large = ScoreCache(tmp_path, MEGABYTE)
    large.put((key(number), row(number, 1000)) for number in range(200))
    large.close()
    small = ScoreCache(tmp_path, MEGABYTE // 4)
    assert 0 < len(small.get(map(key, range(200)))) < 100
    small.close()
    assert (tmp_path / FILE).stat().st_size <= MEGABYTE // 4


def test_what_was_kept_in_a_directory_is_there_after_a_restart(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "new" / "folder", MEGABYTE)
    cache.put([(key(1), row(1))])
    cache.close()
    again = ScoreCache(tmp_path / "new" / "folder", MEGABYTE).get([key(1)])
    assert again[key(1)].tolist() == row(1).tolist()


@pytest.mark.parametrize(("count", "statements"), [(4096, 1), (10_000, 3)])
def test_a_thousand_sets_of_four_are_read_by_one_statement(count: int, statements: int) -> None:
    made: list[str] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            made.append(sql)
            return super().execute(sql, *parameters)

    cache = ScoreCache(None, MEGABYTE, Watched)
    cache.put((key(number), row(number)) for number in range(0, count, 2))
    made.clear()
    assert set(cache.get(map(key, range(count)))) == set(map(key, range(0, count, 2)))
    assert len(made) == statements


def kept(folder: Path, count: int = 300) -> Path:
    cache = ScoreCache(folder, MEGABYTE)
    cache.put((key(number), row(number)) for number in range(count))
    cache.close()
    return folder / FILE


def test_a_flipped_byte_drops_that_row_with_one_warning(tmp_path: Path) -> None:
    file = kept(tmp_path)
    content = bytearray(file.read_bytes())
    place = content.index(row(7).tobytes())
    content[place] ^= 1
    file.write_bytes(content)
    cache = ScoreCache(tmp_path, MEGABYTE)
    with capture_logs() as logs:
        found = cache.get(map(key, range(300)))
        assert set(found) == {key(number) for number in range(300) if number != 7}
        cache.get(map(key, range(300)))  # it is gone: nothing more to say
    assert [(line["event"], line["rows"]) for line in logs] == [("damaged rows of the score cache were dropped", 1)]
    cache.put([(key(7), row(7))])
    assert cache.get([key(7)])[key(7)].tolist() == row(7).tolist()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_never_serves_a_wrong_score(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever happens to the file, and no call fails."""
    folder = tmp_path_factory.mktemp("cache")
    file = kept(folder)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    cache = ScoreCache(folder, MEGABYTE)
    for number, value in [(int.from_bytes(k[:8], "big"), v) for k, v in cache.get(map(key, range(300))).items()]:
        assert value.tolist() == row(number).tolist()
    cache.put([(key(1000), row(1000))])
    assert all(value.tolist() == row(1000).tolist() for value in cache.get([key(1000)]).values())
    cache.close()


@pytest.mark.parametrize("size", [100, 5000, -4096])
def test_a_truncated_file_is_set_aside_with_one_warning(tmp_path: Path, size: int) -> None:
    file = kept(tmp_path)
    file.write_bytes(file.read_bytes()[:size])
    with capture_logs() as logs:
        cache = ScoreCache(tmp_path, MEGABYTE)
        cache.get(map(key, range(300)))
        cache.put((key(number), row(number)) for number in range(300))
        assert len(cache.get(map(key, range(300)))) == 300
    assert [line["event"] for line in logs] == ["the score cache was unusable: a new one was begun"]
    assert file.with_suffix(".broken").exists()


def test_a_table_whose_name_is_no_text_any_more_is_set_aside(tmp_path: Path) -> None:
    file = kept(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"tablescores", b"tables\xe7ores"))
    cache = ScoreCache(tmp_path, MEGABYTE)
    cache.put([(key(1), row(1))])
    assert list(cache.get([key(1)])) == [key(1)]
    assert file.with_suffix(".broken").exists()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR_WRITE])
def test_a_full_disk_costs_the_cache_and_one_warning_and_passes(code: int) -> None:
    broken = False

    class Failing(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            if broken:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = code
                raise error
            return super().execute(*arguments)

    cache = ScoreCache(None, MEGABYTE, Failing)
    cache.put([(key(1), row(1))])
    broken = True
    with capture_logs() as logs:
        for _ in range(3):
            cache.put([(key(2), row(2))])
            assert cache.get([key(1), key(2)]) == {}
    assert [line["event"] for line in logs] == ["the score cache cannot be used for now"]
    broken = False
    assert list(cache.get([key(1), key(2)])) == [key(1)]


def test_a_file_that_another_process_locks_is_used_later(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, MEGABYTE)
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("BEGIN IMMEDIATE")
    with capture_logs() as logs:
        cache.put([(key(1), row(1))])
        assert cache.get([key(1)]) == {}
    assert len(logs) == 1
    other.rollback()
    other.close()
    cache.put([(key(1), row(1))])
    assert list(cache.get([key(1)])) == [key(1)]
    cache.close()


def test_a_file_that_another_process_is_making_is_left_to_it(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("BEGIN EXCLUSIVE")
    cache = ScoreCache(tmp_path, MEGABYTE)
    cache.put([(key(1), row(1))])
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    other.close()
    cache.put([(key(1), row(1))])
    assert list(cache.get([key(1)])) == [key(1)]
    assert not (tmp_path / FILE).with_suffix(".broken").exists()


def test_a_directory_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with capture_logs() as logs:
        cache = ScoreCache(tmp_path / "file", MEGABYTE)
        cache.put([(key(1), row(1))])
        assert cache.get([key(1)]) == {}
        cache.close()
    assert len(logs) == 1


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
def test_a_cache_file_that_is_lost_is_begun_anew(tmp_path: Path, how: str) -> None:
    cache, path = ScoreCache(tmp_path, MEGABYTE), tmp_path / FILE
    cache.put([(key(1), row(1))])
    if how == "deleted":
        path.unlink()
    else:
        path.rename(tmp_path / "aside")
    if how == "replaced":
        path.write_bytes(b"")
    cache.put([(key(2), row(2))])
    cache.close()
    assert list(ScoreCache(tmp_path, MEGABYTE).get([key(1), key(2)])) == [key(2)]
