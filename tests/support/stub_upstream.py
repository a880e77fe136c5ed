"""A stub of an OpenAI-compatible chat API on loopback: a test says what it answers, and reads what it was asked."""

from __future__ import annotations

import json
import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

DRIP_SECONDS = 0.05
KEY = "sk-stub-3f9a"
MODEL = "stub-model"

Body = Mapping[str, Any]


@dataclass
class Answer:
    """A reply: a JSON body, or any text; ``hangs`` never answers, and ``drips`` comes byte by byte from there on."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    hangs: bool = False
    drips: Literal["head", "body"] | None = None


class StubUpstream:
    """What was asked so far, and the function that answers; a test may replace it at any time."""

    def __init__(self, answer: Callable[[Body], Answer]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.released = threading.Event()
        self.under_way = 0
        self.most_under_way = 0
        self.url = ""
        self._lock = threading.Lock()

    def take(self, body: dict[str, Any], key: str) -> Answer:
        with self._lock:
            self.asked.append(body)
            self.keys.append(key)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = self.answer(body)
            if answer.hangs:
                self.released.wait(60)
            return answer
        finally:
            with self._lock:
                self.under_way -= 1

    @property
    def questions(self) -> list[str]:
        """The last user message of each request."""
        turns = [[each for each in body["messages"] if each["role"] == "user"] for body in self.asked]
        return [each[-1]["content"] for each in turns]


@contextmanager
def stub_upstream(answer: Callable[[Body], Answer]) -> Iterator[StubUpstream]:
    """Serve the stub for as long as the block runs."""
    stub = StubUpstream(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            given = stub.take(body, self.headers.get("Authorization", ""))
            content = given.body if isinstance(given.body, str) else json.dumps(given.body)
            if given.drips == "head":
                self.drip(b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 4096)
                return
            self.send_response(given.status)
            for name, value in {"Content-Type": given.content_type, **given.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content.encode())))
            self.end_headers()
            (self.drip if given.drips else self.wfile.write)(content.encode())

        def drip(self, content: bytes) -> None:
            for byte in content:
                self.wfile.write(bytes([byte]))
                if stub.released.wait(DRIP_SECONDS):
                    return

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # the library's 5 are fewer than the service's connections at once

        def handle_error(self, *_: Any) -> None:
            """A client that hangs up is part of a test."""

    server = Server(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def said(text: str | None, top: Sequence[tuple[str, float]] | None = None, model: str = MODEL) -> Answer:
    """A chat reply with this text and, of its first token, the probabilities of ``top``."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if top is not None:
        listed = [{"token": token, "logprob": math.log(chance), "bytes": None} for token, chance in top]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
    usage = {"prompt_tokens": 30, "completion_tokens": 1, "total_tokens": 31}
    return Answer({"id": "1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage})


def error(status: int, code: str | None = None, **headers: str) -> Answer:
    """An error in OpenAI's form; its message quotes the key, as some do."""
    return Answer({"error": {"message": f"{KEY} is wrong", "type": "stub", "code": code}}, status, headers)


def golden_place(body: Body) -> int | None:
    """The place of the right option if this is the golden question."""
    from pad_teacher.scoring.black_box.golden import PROMPT, RIGHT, WRONG

    text = next(each["content"] for each in body["messages"] if each["role"] == "user")
    if not all(each in text for each in (PROMPT, RIGHT, WRONG)):
        return None
    return int(text.index(RIGHT) > text.index(WRONG))


def passing(answer: Callable[[Body], Answer], *, logprobs: bool) -> Callable[[Body], Answer]:
    """``answer``, but the golden question is answered right."""

    def answered(body: Body) -> Answer:
        place = golden_place(body)
        if place is None:
            return answer(body)
        if body.get("logprobs") and not logprobs:
            return error(400, "unsupported_parameter")
        letters = "AB" if place == 0 else "BA"
        return said(letters[0], [(letters[0], 0.98), (letters[1], 0.01)] if body.get("logprobs") else None)

    return answered


def voter(chances: Mapping[str, float], invalid: float = 0.0, seed: int = 0) -> Callable[[Body], Answer]:
    """Votes for options by their texts: ``chances`` of each text that a question may show, and of prose."""
    draw = random.Random(seed)

    def answered(body: Body) -> Answer:
        text = next(each["content"] for each in body["messages"] if each["role"] == "user")
        shown = sorted((each for each in chances if each in text), key=text.index)
        place = draw.choices(range(len(shown)), [chances[each] for each in shown])[0]
        return said("None of them is good." if draw.random() < invalid else "ABCDEFGH"[place])

    return answered
