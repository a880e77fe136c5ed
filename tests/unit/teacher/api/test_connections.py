"""Which connection gives way to a new one, in one step for each."""

import asyncio
from dataclasses import dataclass, field

from pad_teacher.api.connections import ConnectionLimits, Connections


@dataclass(eq=False)
class Fake:
    """A connection that notes its end."""

    loop: asyncio.AbstractEventLoop
    is_busy: bool = False
    ended: list[bool] = field(default_factory=list[bool])

    def abort(self) -> None:
        self.ended.append(True)

    def end_if_overdue(self, now: float, limits: ConnectionLimits) -> None:
        """Never."""


def test_the_one_longest_silent_gives_way() -> None:
    async def promise() -> None:
        connections = Connections(ConnectionLimits(3, 60, 60))
        first, second, third, fourth, fifth = (Fake(asyncio.get_running_loop()) for _ in range(5))
        for each in (first, second, third):
            connections.opened(each)
        connections.heard(first)
        second.is_busy = True
        connections.opened(fourth)
        assert [each.ended for each in (first, second, third, fourth)] == [[], [], [True], []]
        connections.closed(third)
        connections.heard(third)  # what it had sent before its end
        connections.closed(fourth)
        connections.opened(fifth)
        assert not fifth.ended

    asyncio.run(promise())


def test_a_new_connection_is_closed_if_all_others_are_busy() -> None:
    async def promise() -> None:
        connections = Connections(ConnectionLimits(2, 60, 60))
        busy = [Fake(asyncio.get_running_loop(), is_busy=True) for _ in range(2)]
        for each in busy:
            connections.opened(each)
        new = Fake(asyncio.get_running_loop())
        connections.opened(new)
        assert new.ended
        assert not any(each.ended for each in busy)

    asyncio.run(promise())
