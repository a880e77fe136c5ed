"""uvicorn that drains: it answers until the last request is done, and a second signal ends it soon."""

import asyncio
import time
from contextlib import suppress
from math import ceil
from socket import socket
from types import FrameType

import structlog
import uvicorn

from pad_teacher.service import Service

log = structlog.get_logger()

LOOK_SECONDS = 0.05  # between two looks at whether a second signal has come
LAST_SECONDS = 1  # to send the last refusals, and to save usage if there is no time left


class DrainingServer(uvicorn.Server):
    """Serves ``service`` until a signal or a failure.

    - From the first signal on the service refuses new work. Connections are accepted and health is answered until
      no request is under way, or ``drain_seconds`` are over.
    - Requests that are left then are refused with 503, which is counted and logged.
    - A second signal ends the drain: ``force_exit``, which also means not to wait for the engine.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        service.on_failure = self._stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or end it. uvicorn's own would raise the signal once more in the end."""
        self.force_exit = self.should_exit
        self._service.drain()
        self._stop()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Drain, then close the listener and stop the service."""
        ends = time.monotonic() + self._service.settings.drain_seconds
        while (tasks := set(self.server_state.tasks)) and not self.force_exit and time.monotonic() < ends:
            await asyncio.wait(tasks, timeout=LOOK_SECONDS)
        await self._refuse_the_rest()
        left = 0 if self.force_exit else ceil(ends - time.monotonic())
        self.config.timeout_graceful_shutdown = max(LAST_SECONDS, left)  # for replies that clients read slowly
        await super().shutdown(sockets)
        if self.force_exit:  # then uvicorn has not stopped the service, which would wait for the engine
            with suppress(TimeoutError):
                await asyncio.wait_for(self._service.usage.close(), LAST_SECONDS)

    async def _refuse_the_rest(self) -> None:
        """End the requests that are left: each answers 503."""
        tasks = set(self.server_state.tasks)
        if not tasks:
            return
        log.warning("requests are refused, as the drain is over", requests=len(tasks))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=LAST_SECONDS)

    def _stop(self) -> None:
        self.should_exit = True
