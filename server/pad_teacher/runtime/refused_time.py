"""How much an owner's work waits because the thread's time went into work of its own that was refused."""

from dataclasses import dataclass

FREE_SECONDS = 0.25  # of refused work at a time, which nobody notices
SHARE = 0.1  # of the thread, for an owner that has had more: what others compute then has the rest of the cores
MAX_REMEMBERED = 1024  # owners with refused work that is not forgiven yet


@dataclass(slots=True)
class _Debt:
    """Seconds of refused work, as they were at a time; they are forgiven at the rate at which they may come."""

    seconds: float
    at: float

    def left(self, now: float) -> float:
        return max(0.0, self.seconds - SHARE * (now - self.at))


class RefusedTime:
    """Seconds of refused work by owner. Other owners' work needs the interpreter too, and not only its turn.

    - Each owner has ``FREE_SECONDS``; beyond those, pauses leave its work ``SHARE`` of the thread.
    - ``SHARE`` of a second is forgiven each second.
    - ``now`` is any clock in seconds that does not go back.
    """

    def __init__(self) -> None:
        self._debts: dict[str, _Debt] = {}

    def add(self, owner: str, seconds: float, now: float) -> None:
        """Count work that ended in a refusal."""
        debt = self._debts.get(owner)
        if debt is None and len(self._debts) >= MAX_REMEMBERED:
            self._debts = {name: each for name, each in self._debts.items() if each.left(now)}
            if len(self._debts) >= MAX_REMEMBERED:
                self._debts.clear()
        self._debts[owner] = _Debt((debt.left(now) if debt else 0.0) + seconds, now)

    def pause_after(self, owner: str, seconds: float, now: float) -> float:
        """The seconds that the owner's work waits after a turn of so many."""
        debt = self._debts.get(owner)
        return seconds * (1 / SHARE - 1) if debt and debt.left(now) > FREE_SECONDS else 0.0
