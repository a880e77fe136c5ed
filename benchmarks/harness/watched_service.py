"""A service with a sleeping engine and a watched event loop. It listens on a free port and prints its address."""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import uvicorn
from starlette.responses import JSONResponse

from benchmarks.harness.environment import RUNS
from benchmarks.harness.model import make_tokenizer
from pad_teacher.api.app import create_app
from pad_teacher.engines.base import Engine
from pad_teacher.engines.queries import Answer, Echo, EchoLogprobs, FloatArray, Query, Questions, TokenSet
from pad_teacher.runtime import logs
from pad_teacher.runtime.garbage import freeze_loaded_objects
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.serve.process import SWITCH_SECONDS as SWITCH
from pad_teacher.service import Service
from pad_teacher.settings import ServeSettings
from pad_wire.chat import ChatEncoder

RESET, VALUES = "/watch/reset", "/watch/values"
ENGINE_SECONDS = 0.002  # of one batch, without the interpreter lock, as on a device


class Sleeping(Engine):
    """An engine that answers every query with the same number after a sleep, and records the gaps between calls."""

    name, dtype, vocabulary, max_context_tokens = "sleeping", "float32", 2**20, 8192

    def __init__(self) -> None:
        self.ended: float | None = None
        self.gaps: list[float] = []

    def score(self, queries: Sequence[Query]) -> list[Answer]:
        if self.ended is not None:
            self.gaps.append(time.perf_counter() - self.ended)
        answers = [self._answer(query) for query in queries]
        time.sleep(ENGINE_SECONDS)
        self.ended = time.perf_counter()
        return answers

    def _answer(self, query: Query) -> Answer:
        match query:
            case TokenSet(_, response_ids):
                return [np.full(len(ids), -1.25, np.float32) for ids in response_ids]
            case Questions(prompts, label_ids):
                return [np.full(len(label_ids), -1.25, np.float32) for _ in prompts]
            case Echo(ids, top, _):
                values = np.full((len(ids), top), -1.25, np.float32)
                return EchoLogprobs(values[1:, 0], np.zeros(values.shape, np.int64), values)

    def reference_logprobs(self, prompt_ids: list[int], response_ids: list[int]) -> FloatArray:
        return np.full(len(response_ids), -1.25, np.float32)

    def digest(self) -> str:
        return "0" * 64


class Watch:
    """ASGI middleware that measures how late the loop is, and the CPU time of its longest step.

    ``held`` is the part of a lateness in which the loop could have run, had this process let it: without the time
    that its thread waited for a core, and no more than the CPU time of this process.
    """

    def __init__(self, app: Any, engine: Sleeping) -> None:
        self._app, self._engine = app, engine
        self._late: list[float] = []
        self._held: list[float] = []
        self._step = 0.0
        self._probe: asyncio.Task[None] | None = None
        run, handle = asyncio.events.Handle._run, asyncio.events.Handle

        def timed(self_: Any) -> None:
            began = time.thread_time()
            run(self_)
            self._step = max(self._step, time.thread_time() - began)

        handle._run = timed  # type: ignore[method-assign]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == RESET:
            self._probe = self._probe or asyncio.create_task(self._watch())
            self._late, self._engine.gaps, self._engine.ended = [], [], None
            await asyncio.sleep(0.1)  # freeing the old records is a long step of this watch itself
            self._late, self._held, self._step = [], [], 0.0
            await JSONResponse({})(scope, receive, send)
        elif scope.get("path") == VALUES:
            gaps = self._engine.gaps
            values = {
                "late_ms": _spread(self._late),
                "held_ms": _spread(self._held),
                "longest_step_own_ms": round(self._step * 1e3, 2),
                "batches": len(gaps) + bool(gaps),
                "gap_ms": round(median(gaps) * 1e3, 2) if gaps else None,
            }
            await JSONResponse(values)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _watch(self) -> None:
        waits = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")  # Linux: the second number
        while True:
            waited, used, began = _waited(waits), time.process_time(), time.perf_counter()
            await asyncio.sleep(0.001)
            late = time.perf_counter() - began - 0.001
            self._late.append(late)
            self._held.append(max(0.0, min(late - (_waited(waits) - waited), time.process_time() - used)))


def _waited(schedstat: Path) -> float:
    """Seconds in which a thread could have run, and had no core."""
    return int(schedstat.read_text().split()[1]) / 1e9


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = {"median": 0.5, "p99": 0.99, "p99.9": 0.999, "worst": 1.0}
    return {
        name: round(1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2) for name, share in at.items()
    }


def main() -> None:
    if "--default-switching" not in sys.argv:
        sys.setswitchinterval(SWITCH)
    logs.configure("error")
    engine = Sleeping()
    tokenizer: Any = make_tokenizer(RUNS)

    def load() -> Teacher:
        teacher = Teacher.of("sleeping", ChatEncoder.of(tokenizer), engine)
        if "--default-collecting" not in sys.argv:
            freeze_loaded_objects()
        return teacher

    app = create_app(Service(ServeSettings(model="sleeping", max_queued_tokens=4_000_000, cache_bytes=0), load))
    serve(Watch(app, engine))


def serve(app: Any) -> None:
    """Serve an ASGI application on a free port of loopback, and print its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, http="h11", log_level="error"))
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        asyncio.run(server.serve(sockets=[listener]))


if __name__ == "__main__":
    main()
