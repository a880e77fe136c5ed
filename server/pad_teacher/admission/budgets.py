"""The budgets of keys and the 429 of a spent one: tokens a minute (a bucket), and a quota for each UTC day."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

from pad_teacher.admission.keys import KeyLimits
from pad_teacher.errors import Refusal
from pad_wire import KeyUsage

DAY_SECONDS = 86_400
KEPT_DAYS = 8
_ROUNDING = 1e-6  # tokens: a client that has waited as long as it was told finds enough in the bucket


@dataclass(frozen=True, slots=True)
class Clocks:
    """``wall`` tells the UTC day and may be set; ``steady`` only goes on, and fills the buckets. Both in seconds."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class _Bucket:
    """One key's tokens a minute: ``level`` are those in the bucket at ``filled_at``, at most ``size``."""

    level: float
    size: int | None
    filled_at: float

    def refill(self, now: float, size: int | None) -> None:
        """Refill the bucket up to ``now``, by a limit that may have changed. It starts full."""
        if size and self.size:
            self.level = min(size, self.level + max(0.0, now - self.filled_at) * size / 60)
        else:
            self.level = size or 0.0
        self.size, self.filled_at = size, now


class Budgets:
    """Teacher tokens of each key, counted when a request is queued. Belongs to the event loop.

    - A request that is refused costs nothing.
    - Tokens given back count for the day on which they were taken.
    - Limits may change with each call; they apply from then on.
    - Each day's tokens are kept for ``KEPT_DAYS`` days: a clock that is set back gives no day's quota twice.
    """

    def __init__(self, used: Mapping[tuple[str, str], int] | None = None, clocks: Clocks | None = None) -> None:
        """Begin to count.

        Args:
            used: tokens of each (key, UTC day) used before this process started.
            clocks: the time.
        """
        self._clocks = clocks or Clocks()
        self._used_before = dict(used or {})
        self._buckets: dict[str, _Bucket] = {}
        self._counted: Counter[tuple[str, str]] = Counter()

    def take(self, key: str, limits: KeyLimits, cost: int) -> str:
        """Charge ``cost`` tokens to the key; returns the day on which they count, for ``give_back``.

        Raises:
            Refusal: ``too_long`` if the key's limits never allow that many; ``quota_exceeded`` or
                ``budget_exceeded``, with the seconds until they do.
        """
        self.refuse_if_short(key, limits, cost)
        today = self._today()
        self._bucket(key, limits).level -= cost
        self._counted[key, today] += cost
        return today

    def give_back(self, key: str, tokens: int, day: str) -> None:
        """Undo ``take`` for tokens that were not computed."""
        bucket = self._buckets[key]
        if bucket.size:
            bucket.level = min(bucket.size, bucket.level + tokens)
        self._counted[key, day] -= tokens

    def refuse_if_short(self, key: str, limits: KeyLimits, cost: int = 1) -> None:
        """Refuse a request of ``cost`` tokens as ``take`` does; a single one is short if the key is spent.

        Raises:
            Refusal: as ``take``.
        """
        minute, day = limits.tokens_per_minute, limits.tokens_per_day
        for limit, period in ((minute, "minute"), (day, "day")):
            if limit and cost > limit:
                message = f"the request costs {cost} teacher tokens; this key's limit is {limit} a {period}: split it"
                raise Refusal("too_long", message)
        if day and (left := day - self._used(key, self._today())) < cost:
            raise self._quota_refusal(day, left, cost)
        if minute and (level := self._bucket(key, limits).level) + _ROUNDING < cost:
            raise _budget_refusal(minute, cost - level)

    def usage(self, key: str, limits: KeyLimits) -> KeyUsage:
        """The key's limits, and the tokens left of each now."""
        bucket, used = self._bucket(key, limits), self._used(key, self._today())
        minute, day = limits.tokens_per_minute, limits.tokens_per_day
        return KeyUsage(
            name=key,
            weight=limits.weight,
            tokens_per_minute=minute,
            left_of_minute=int(bucket.level) if minute else None,
            tokens_per_day=day,
            left_of_day=max(0, day - used) if day else None,
            tokens_today=used,
        )

    def totals(self) -> dict[tuple[str, str], int]:
        """This process's tokens of each (key, day), of the last ``KEPT_DAYS`` days on which any were used."""
        kept = sorted({day for _, day in self._counted})[-KEPT_DAYS:]
        self._counted = Counter({which: count for which, count in self._counted.items() if which[1] in kept})
        return dict(self._counted)

    def _bucket(self, key: str, limits: KeyLimits) -> _Bucket:
        now = self._clocks.steady()
        bucket = self._buckets.setdefault(key, _Bucket(0.0, None, now))
        bucket.refill(now, limits.tokens_per_minute)
        return bucket

    def _today(self) -> str:
        return day_of(self._clocks.wall())

    def _used(self, key: str, day: str) -> int:
        return self._used_before.get((key, day), 0) + self._counted[key, day]

    def _quota_refusal(self, quota: int, left: int, cost: int) -> Refusal:
        midnight = max(1, ceil(DAY_SECONDS - self._clocks.wall() % DAY_SECONDS))
        left = max(0, left)
        message = f"of this key's {quota} teacher tokens a day {left} are left until midnight UTC"
        if left:
            message += f", and the request costs {cost}"
        return Refusal("quota_exceeded", message, retry_after_s=midnight)


def _budget_refusal(minute: int, missing: float) -> Refusal:
    message = f"this key's budget of {minute} teacher tokens a minute is spent"
    return Refusal("budget_exceeded", message, retry_after_s=max(1, ceil(missing * 60 / minute)))


def day_of(now: float) -> str:
    """The UTC day of a time in seconds since 1970, as in 2026-01-31."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()
