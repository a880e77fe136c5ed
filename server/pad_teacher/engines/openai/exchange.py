"""One exchange with the API under one deadline that covers all of it, and that another thread can end.

The HTTP library limits each read alone: a peer that sends a byte a second would never be too slow.
"""

from typing import Any

import anyio
import openai
from anyio.from_thread import start_blocking_portal

from pad_teacher.engines.openai.replies import BadReply

MAX_REPLY_BYTES = 16 * 2**20


class Interrupted(Exception):
    """The exchange has been ended from outside, or none is begun any more."""


class Exchanges:
    """Exchanges of one client, on an event loop in a thread of its own; thread-safe.

    - Each ends within ``timeout`` seconds, from the connection to the last byte of the reply.
    - After ``interrupt`` those under way end, and no other begins.

    Args:
        client: without retries and timeouts of its own.
        timeout: seconds for each.
    """

    def __init__(self, client: openai.AsyncOpenAI, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._under_way: set[anyio.CancelScope] = set()  # of the loop's thread, as is the next
        self._ended = False
        self._thread = start_blocking_portal(name="upstream")
        self._loop = self._thread.__enter__()

    def chat(self, fields: dict[str, Any]) -> bytes:
        """Send a chat request with these fields; the body of its reply.

        Raises:
            TimeoutError: if it has not ended in time.
            openai.APIStatusError: if the reply is an error.
            openai.APIConnectionError, or an ``HTTPError`` of the HTTP library: if the connection failed.
            BadReply: if the reply is without end.
            Interrupted: if it was ended from outside.
        """
        return self._loop.call(self._chat, fields)

    def interrupt(self) -> None:
        """End all exchanges, now and in future."""
        self._loop.call(self._end_all)

    def close(self) -> None:
        """End all exchanges, and close the connections."""
        self.interrupt()
        self._loop.call(self._client.close)
        self._thread.__exit__(None, None, None)

    async def _chat(self, fields: dict[str, Any]) -> bytes:
        if self._ended:
            raise Interrupted
        with anyio.fail_after(self._timeout) as scope:
            self._under_way.add(scope)
            try:
                return await self._read(fields)
            finally:
                self._under_way.discard(scope)
        raise Interrupted

    async def _read(self, fields: dict[str, Any]) -> bytes:
        # Its bytes are read here, as the library would take a reply of any shape.
        create: Any = self._client.chat.completions.with_streaming_response.create
        content = bytearray()
        async with create(**fields) as response:
            async for part in response.iter_bytes():
                content += part
                if len(content) > MAX_REPLY_BYTES:
                    raise BadReply("it is without end")
        return bytes(content)

    async def _end_all(self) -> None:
        self._ended = True
        for scope in self._under_way:
            scope.cancel()
