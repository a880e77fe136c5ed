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

_DAY_SECONDS = 86_400
_ROUNDING = 1e-6  # tokens: a client that has waited as long as it was told finds enough in the bucket


@dataclass(slots=True)
class _Account:
    """One key's token bucket, and the tokens that it has used today."""

    level: float  # tokens in the bucket at ``filled_at``, at most ``bucket``
    bucket: int | None
    filled_at: float
    day: str
    used: int

    def refill(self, now: float, bucket: int | None) -> None:
        """Refill the bucket up to ``now``, by a limit that may have changed; begin a new day. It starts full."""
        if bucket and self.bucket:
            self.level = min(bucket, self.level + max(0.0, now - self.filled_at) * bucket / 60)
        else:
            self.level = bucket or 0.0
        self.bucket, self.filled_at = bucket, now
        if day_of(now) != self.day:
            self.day, self.used = day_of(now), 0


class Budgets:
    """Teacher tokens of each key, counted when a request is queued. Belongs to the event loop.

    - A request that is refused costs nothing.
    - Tokens given back count for the day on which they were taken.
    - Limits may change with each call; they apply from then on.
    """

    def __init__(
        self, used: Mapping[tuple[str, str], int] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Begin to count.

        Args:
            used: tokens of each (key, UTC day) used before this process started.
            clock: seconds since 1970.
        """
        self._clock = clock
        self._used_before = dict(used or {})
        self._accounts: dict[str, _Account] = {}
        self._unsaved: Counter[tuple[str, str]] = Counter()

    def take(self, key: str, limits: KeyLimits, cost: int) -> str:
        """Charge ``cost`` tokens to the key; returns the day on which they count, for ``give_back``.

        Raises:
            Refusal: ``too_long`` if the key's limits never allow that many; ``quota_exceeded`` or
                ``budget_exceeded``, with the seconds until they do.
        """
        account = self._account(key, limits)
        minute, day = limits.tokens_per_minute, limits.tokens_per_day
        for limit, period in ((minute, "minute"), (day, "day")):
            if limit and cost > limit:
                message = f"the request costs {cost} teacher tokens; this key's limit is {limit} a {period}: split it"
                raise Refusal("too_long", message)
        if day and account.used + cost > day:
            raise self._quota_refusal(day, day - account.used, cost)
        if minute and account.level + _ROUNDING < cost:
            wait = max(1, ceil((cost - account.level) * 60 / minute))
            message = f"this key's budget of {minute} teacher tokens a minute is spent"
            raise Refusal("budget_exceeded", message, retry_after_s=wait)
        account.level -= cost
        self._count(account, key, account.day, cost)
        return account.day

    def give_back(self, key: str, tokens: int, day: str) -> None:
        """Undo ``take`` for tokens that were not computed."""
        account = self._accounts[key]
        if account.bucket:
            account.level = min(account.bucket, account.level + tokens)
        self._count(account, key, day, -tokens)

    def refuse_if_spent(self, key: str, limits: KeyLimits) -> None:
        """Refuse a key that has no token left today, before its request is read.

        Raises:
            Refusal: ``quota_exceeded``.
        """
        if limits.tokens_per_day and (left := limits.tokens_per_day - self._account(key, limits).used) <= 0:
            raise self._quota_refusal(limits.tokens_per_day, left, 1)

    def usage(self, key: str, limits: KeyLimits) -> KeyUsage:
        """The key's limits, and the tokens left of each now."""
        account = self._account(key, limits)
        minute, day = limits.tokens_per_minute, limits.tokens_per_day
        return KeyUsage(
            name=key,
            weight=limits.weight,
            tokens_per_minute=minute,
            left_of_minute=int(account.level) if minute else None,
            tokens_per_day=day,
            left_of_day=max(0, day - account.used) if day else None,
            tokens_today=account.used,
        )

    def unsaved(self) -> dict[tuple[str, str], int]:
        """Tokens used of each (key, day) since the last call."""
        changes, self._unsaved = dict(self._unsaved), Counter()
        return {which: tokens for which, tokens in changes.items() if tokens}

    def save_later(self, changes: Mapping[tuple[str, str], int]) -> None:
        """Return tokens that could not be saved to the next ``unsaved``."""
        self._unsaved.update(changes)

    def _account(self, key: str, limits: KeyLimits) -> _Account:
        now = self._clock()
        if key not in self._accounts:
            used = self._used_before.pop((key, day_of(now)), 0)
            self._accounts[key] = _Account(0.0, None, now, day_of(now), used)
        self._accounts[key].refill(now, limits.tokens_per_minute)
        return self._accounts[key]

    def _count(self, account: _Account, key: str, day: str, tokens: int) -> None:
        if account.day == day:
            account.used += tokens
        self._unsaved[key, day] += tokens

    def _quota_refusal(self, quota: int, left: int, cost: int) -> Refusal:
        midnight = max(1, ceil(_DAY_SECONDS - self._clock() % _DAY_SECONDS))
        left = max(0, left)
        message = f"of this key's {quota} teacher tokens a day {left} are left until midnight UTC"
        if left:
            message += f", and the request costs {cost}"
        return Refusal("quota_exceeded", message, retry_after_s=midnight)


def day_of(now: float) -> str:
    """The UTC day of a time in seconds since 1970, as in 2026-01-31."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()
