"""A service with an engine that sleeps for each token, so that the scheduler alone is measured."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer

from benchmarks.harness.environment import ROOT
from benchmarks.harness.watched_service import Sleeping, serve
from pad_teacher.api.app import create_app
from pad_teacher.engines.queries import Answer, Query, TokenSet
from pad_teacher.runtime import logs
from pad_teacher.runtime.garbage import freeze_loaded_objects
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.serve.process import SWITCH_SECONDS
from pad_teacher.service import Service
from pad_teacher.settings import read_settings
from pad_wire.chat import ChatEncoder

TOKENS_A_SECOND = 20_000
MODEL = ROOT / "examples" / "tinyworld" / "teacher"  # only its tokenizer is used


class Metered(Sleeping):
    """An engine that sleeps for each token of a set and leaves the interpreter free, as a device does."""

    def score(self, queries: Sequence[Query]) -> list[Answer]:
        until = time.perf_counter() + sum(map(_tokens, queries)) / TOKENS_A_SECOND
        answers = [self._answer(query) for query in queries]
        time.sleep(max(0.0, until - time.perf_counter()))
        return answers


def _tokens(query: Query) -> int:
    return len(query.prompt_ids) + sum(map(len, query.response_ids)) if isinstance(query, TokenSet) else 0


def main() -> None:
    settings = read_settings(["--model", str(MODEL), *sys.argv[1:]])
    sys.setswitchinterval(SWITCH_SECONDS)
    logs.configure("error")
    tokenizer: Any = AutoTokenizer.from_pretrained(MODEL)

    def load() -> Teacher:
        teacher = Teacher.of("metered", ChatEncoder.of(tokenizer), Metered())
        freeze_loaded_objects()
        return teacher

    app = create_app(Service(settings, load))
    serve(app)


if __name__ == "__main__":
    main()
