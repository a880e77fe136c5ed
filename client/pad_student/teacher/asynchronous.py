"""``AsyncTeacher``: the methods of ``Teacher`` for asynchronous programs, on asyncio and trio."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, Unpack

from anyio import to_thread

from pad_student.teacher.client import Teacher
from pad_student.teacher.options import ScoreFields, ScoreOptions
from pad_wire import ModelCard, ScoredSet, UsageReply
from pad_wire.given import GivenSet
from pad_wire.scoring import SelectionSet

Result = TypeVar("Result")
_END: Any = object()


class AsyncTeacher:
    """A client of one teacher, as ``Teacher`` is; its methods are awaited, and its streams are asynchronous.

    The work is that of a ``Teacher`` in threads: same requests, retries, checks and errors. A cancelled call is not
    waited for.

    Args:
        url: of the service, or of each replica.
        options: as for ``Teacher``: key, job, timeout, patience, fingerprint, transport.
    """

    def __init__(self, url: Any, *options: Any, **named: Any) -> None:
        self._teacher = Teacher(url, *options, **named)

    def __repr__(self) -> str:
        return f"Async{self._teacher!r}"

    async def __aenter__(self) -> "AsyncTeacher":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._teacher.close()

    async def close(self) -> None:
        """As ``Teacher.close``."""
        self._teacher.close()

    @property
    def fingerprint(self) -> str | None:
        """As ``Teacher.fingerprint``."""
        return self._teacher.fingerprint

    @property
    def tokens_scored(self) -> int:
        """As ``Teacher.tokens_scored``."""
        return self._teacher.tokens_scored

    @property
    def busy_seconds(self) -> float:
        """As ``Teacher.busy_seconds``."""
        return self._teacher.busy_seconds

    @property
    def reference_fingerprint(self) -> str | None:
        """As ``Teacher.reference_fingerprint``."""
        return self._teacher.reference_fingerprint

    def pin(self, fingerprint: str, reference: str | None = None) -> None:
        """As ``Teacher.pin``."""
        self._teacher.pin(fingerprint, reference)

    async def model(self) -> ModelCard:
        """As ``Teacher.model``."""
        return await _in_thread(self._teacher.model)

    async def usage(self) -> UsageReply:
        """As ``Teacher.usage``."""
        return await _in_thread(self._teacher.usage)

    async def score(
        self, sets: Iterable[GivenSet], options: ScoreOptions | None = None, **fields: Unpack[ScoreFields]
    ) -> list[ScoredSet]:
        """As ``Teacher.score``."""
        return await _in_thread(partial(self._teacher.score, sets, options, **fields))

    def score_stream(
        self, sets: Iterable[GivenSet], options: ScoreOptions | None = None, **fields: Any
    ) -> AsyncIterator[ScoredSet]:
        """As ``Teacher.score_stream``, for ``async for``."""
        return _in_threads(self._teacher.score_stream(sets, options, **fields))

    async def likelihood(self, sets: Iterable[GivenSet], **fields: Any) -> list[ScoredSet]:
        """As ``Teacher.likelihood``."""
        return await _in_thread(partial(self._teacher.likelihood, sets, **fields))

    async def token_logprobs(self, sets: Iterable[GivenSet], **fields: Any) -> list[ScoredSet]:
        """As ``Teacher.token_logprobs``."""
        return await _in_thread(partial(self._teacher.token_logprobs, sets, **fields))

    def selection(self, sets: Iterable[GivenSet], **fields: Any) -> AsyncIterator[SelectionSet]:
        """As ``Teacher.selection``, for ``async for``."""
        return _in_threads(self._teacher.selection(sets, **fields))


async def _in_thread(work: Any) -> Any:
    return await to_thread.run_sync(work, abandon_on_cancel=True)


async def _in_threads(results: Iterator[Result]) -> AsyncIterator[Result]:
    try:
        while (result := await _in_thread(partial(next, results, _END))) is not _END:
            yield result
    finally:
        close: Any = getattr(results, "close", None)
        if close:
            with suppress(ValueError):  # after a cancellation its thread may still be at work in it
                close()


# pyright: standard
