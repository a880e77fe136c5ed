"""Next-token distributions of a response, as one float32 row: an engine answers it and the cache keeps it.

A row of T tokens and K ids has, one after the other, the log-probabilities of the tokens themselves [T], of all ids
that are not named [T], the named ids [T, K] and their log-probabilities [T, K]. If the teacher's reference was asked
too, its tokens [T], its rest [T] and its log-probabilities at the same ids [T, K] follow.
"""

from dataclasses import dataclass

import numpy as np

from pad_teacher.engines.queries import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Distribution:
    """One model's log-probabilities at each of T tokens: ``logprobs_T_K`` and ``rest_T`` add up to probability 1."""

    token_logprobs_T: FloatArray
    rest_T: FloatArray
    logprobs_T_K: FloatArray

    def narrowed(self, top: int) -> "Distribution":
        """The same for the first ``top`` ids: the others join the rest."""
        if top >= self.logprobs_T_K.shape[1]:
            return self
        others_T_K = self.logprobs_T_K[:, top:].astype(np.float64)
        rest_T = np.logaddexp.reduce(np.column_stack([self.rest_T, others_T_K]), axis=1).astype(np.float32)
        return Distribution(self.token_logprobs_T, np.minimum(rest_T, 0), self.logprobs_T_K[:, :top])


@dataclass(frozen=True, slots=True)
class Distributions:
    """A row, read: the named ids, and the distributions of the teacher and, if it was asked, of its reference."""

    ids_T_K: "np.ndarray[tuple[int, int], np.dtype[np.uint32]]"
    teacher: Distribution
    reference: Distribution | None = None


def packed(
    token_logprobs_T: FloatArray, rest_T: FloatArray, ids_T_K: IntArray, logprobs_T_K: FloatArray
) -> FloatArray:
    """The row of one model, cut to at most 0: rounding may leave a certain token just above."""
    # Ids are kept as the floats with the same bits, which are finite: an id is far below the bits of infinity.
    ids = ids_T_K.astype(np.int32).view(np.float32)
    parts = [np.minimum(part, 0) for part in (token_logprobs_T, rest_T, logprobs_T_K)]
    return np.concatenate([parts[0], parts[1], ids.ravel(), parts[2].ravel()], dtype=np.float32)


def with_reference(row: FloatArray, reference: FloatArray, tokens: int) -> FloatArray:
    """The row of the teacher, and after it the numbers of its reference at the same ids, from a row of its own."""
    told = unpacked(reference, tokens).teacher
    return np.concatenate([row, told.token_logprobs_T, told.rest_T, told.logprobs_T_K.ravel()])


def ids_of_row(row_size: int, tokens: int, *, reference: bool = False) -> int:
    """How many ids a row of ``row_size`` numbers names at each of its ``tokens``."""
    return (row_size // tokens - 4) // 3 if reference else (row_size // tokens - 2) // 2


def unpacked(row: FloatArray, tokens: int, *, reference: bool = False) -> Distributions:
    """A row of ``tokens`` tokens, read without a copy."""
    T, K = tokens, ids_of_row(len(row), tokens, reference=reference)
    ids = row[2 * T : (2 + K) * T].view(np.uint32).reshape(T, K)
    teacher = Distribution(row[:T], row[T : 2 * T], row[(2 + K) * T : (2 + 2 * K) * T].reshape(T, K))
    if not reference:
        return Distributions(ids, teacher)
    more = row[(2 + 2 * K) * T :]
    return Distributions(ids, teacher, Distribution(more[:T], more[T : 2 * T], more[2 * T :].reshape(T, K)))
