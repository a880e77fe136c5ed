"""A running application around a fake teacher, called without a network.

With PAD_TEST_ENGINE=vllm the routes' tests run on vLLM instead, with a tiny Llama; transformers computes the expected
values.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import anyio
import httpx
import pytest
import structlog

from pad_teacher.admission.budgets import Clocks
from pad_teacher.api.app import create_app
from pad_teacher.service import Service
from pad_teacher.settings import ServeSettings
from support.app import ExpectedLogLikelihood, Running
from support.fakes import FakeEngine, fake_teacher, log_prob
from support.processes import ENGINE, VLLM_OPTIONS
from support.tiny import vllm_model


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Ten thousand requests would print as many lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


@dataclass
class UnderTest:
    """An engine, and an independent computation of what it must return."""

    engine: Any
    log_prob: Callable[[Sequence[int], int], float]
    tolerance: float

    def log_likelihood(self, prompt: list[int], response: list[int]) -> Any:
        """The expected sum over the response's tokens. ``==`` allows the tolerance or a step of float32."""
        values = [self.log_prob(prompt + response[:k], token) for k, token in enumerate(response)]
        return pytest.approx(sum(values), abs=self.tolerance, rel=2**-23)


@pytest.fixture(scope="session")
def vllm_under_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderTest | None]:
    """A tiny Llama on vLLM, if the tests are to run on vLLM."""
    if ENGINE != "vllm":
        yield None
        return
    from pad_teacher.engines.vllm.engine import VllmEngine

    model, folder = vllm_model("llama"), tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    limits = {"max_context_tokens": FakeEngine.max_context_tokens, "max_batch_tokens": 8192}
    engine = VllmEngine.load(str(folder), revision=None, dtype="float32", options=VLLM_OPTIONS, **limits)
    close, engine.close = engine.close, lambda: None  # each application closes its engine, and this one serves all
    yield UnderTest(engine, _transformers_log_prob(model), tolerance=1e-4)
    close()


def _transformers_log_prob(model: Any) -> Callable[[Sequence[int], int], float]:
    import torch

    @cache
    def after(prefix: tuple[int, ...]) -> torch.Tensor:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([prefix])).logits[0, -1].double().log_softmax(-1)

    return lambda prefix, token: after(tuple(prefix))[token].item()


@pytest.fixture
def under_test(vllm_under_test: UnderTest | None) -> UnderTest:
    return vllm_under_test or UnderTest(FakeEngine(), log_prob, tolerance=1e-5)


@pytest.fixture
def engine(under_test: UnderTest) -> Any:
    return under_test.engine


@pytest.fixture
def expected(under_test: UnderTest) -> ExpectedLogLikelihood:
    return under_test.log_likelihood


@pytest.fixture
def running(engine: Any) -> Running:
    """Start the application with some settings changed."""

    @asynccontextmanager
    async def run(
        load: Any = None, clock: Any = None, **settings: Any
    ) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
        clocks = Clocks(clock, clock) if clock else Clocks()
        service = Service(
            ServeSettings(**{"model": "fake", **settings}), load or (lambda: fake_teacher(engine)), clocks
        )
        app = create_app(service)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8010") as client,
        ):
            while load is None and service.status == "starting":
                await anyio.sleep(0.001)
            yield client, service

    return run


@pytest.fixture
async def client(running: Running, anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with running() as (client, _):
        yield client
