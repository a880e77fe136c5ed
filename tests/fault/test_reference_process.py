"""ADPA from two real services, teacher and reference: the numbers of one service, and kills of each process."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import orjson
import pytest
from safetensors.torch import load_file

from pad_student.storage import jsonl
from pad_wire import ScoredSet
from support.fakes import byte_tokenizer
from support.forkserver import start_forked_student
from support.processes import TeacherProcess, teacher_process
from support.tiny import tiny_model

SECONDS = 240  # for one run, on a machine that has much else to do


class Service:
    """A service that can be killed and started again at its address."""

    def __init__(self, model: Path, log: Path, *options: str) -> None:
        self._model, self._log, self._options = model, log, options
        self._running: AbstractContextManager[TeacherProcess]
        self._process: TeacherProcess
        self.url = ""
        self.start()

    def start(self, model: Path | None = None) -> None:
        port = ["--port", self.url.rpartition(":")[2]] if self.url else []
        self._running = teacher_process(model or self._model, self._log, *self._options, *port, engine="transformers")
        self._process = self._running.__enter__()
        self.url = self._process.url
        self._process.wait_until_ready()

    def kill(self) -> None:
        self._process.stop(signal.SIGKILL)
        self._running.__exit__(None, None, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student, the aligned teacher, its reference, and a model that is neither; and pairs to learn from."""
    where = tmp_path_factory.mktemp("reference")
    tokenizer = byte_tokenizer()
    for seed, name in enumerate(("student", "aligned", "before", "other")):
        model = tiny_model(seed=seed)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(where / name)
        tokenizer.save_pretrained(where / name)
    pairs = [{"id": f"p{k}", "prompt": f"say {k}", "chosen": f"yes {k}", "rejected": "no"} for k in range(12)]
    (where / "pairs.jsonl").write_bytes(b"".join(orjson.dumps(pair) + b"\n" for pair in pairs))
    return where


@pytest.fixture(scope="module")
def services(folder: Path) -> Iterator[tuple[Service, Service]]:
    """The teacher's and the reference's."""
    with ExitStack() as ends:
        both = [Service(folder / name, folder / f"{name}.log") for name in ("aligned", "before")]
        for each in both:
            ends.callback(each.kill)
        yield both[0], both[1]


@pytest.fixture(scope="module")
def whole(folder: Path, services: tuple[Service, Service]) -> Path:
    """A run that nothing disturbed."""
    out = folder / "whole"
    finish(start(folder, out, *(each.url for each in services)), out)
    return out


def start(folder: Path, out: Path, teacher: str, reference: str | None, *more: Any) -> BaseProcess:
    return start_forked_student(
        *("distill", "--method", "adpa", "--top-k", 10, "--n", 2, "--teacher", teacher),
        *(("--reference", reference) if reference else ()),
        *("--model", folder / "student", "--prompts", folder / "pairs.jsonl", "--output-dir", out),
        *("--max-steps", 6, "--prompts-per-step", 3, "--max-response-tokens", 5, "--learning-rate", 1e-2),
        *("--save-steps", 2, "--use-cpu", "true", "--keep-rounds", "all", "--report-prompts", 0, *more),
        log=out.with_suffix(".said"),
    )


def finish(run: BaseProcess, out: Path, status: int = 0) -> list[str]:
    """Wait for the end of a run; the lines that it said."""
    run.join(SECONDS)
    said = out.with_suffix(".said").read_text()
    assert run.exitcode == status, said
    return said.splitlines()


def wait_for(run: BaseProcess, found: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not found():
        assert run.is_alive()
        assert time.monotonic() < end
        time.sleep(0.002)


def weights(out: Path) -> dict[str, Any]:
    return {name: value.tolist() for name, value in load_file(out / "model.safetensors").items()}


def learnt(out: Path) -> tuple[Any, Any]:
    """The numbers of each step, and the weights."""
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    names = ("loss", "grad_norm", "advantage/mean", "kl/sampled", "rest/teacher")
    return [[step[name] for name in names] for step in steps], weights(out)


def scored(out: Path) -> list[ScoredSet]:
    paths = sorted(out.glob("rounds/*/scored.jsonl"))
    return sorted((each for path in paths for each in jsonl.read(path, ScoredSet)), key=lambda each: each.id)


def test_two_services_train_exactly_as_one_with_a_reference(folder: Path, whole: Path, tmp_path: Path) -> None:
    one = Service(folder / "aligned", tmp_path / "log", "--reference", str(folder / "before"))
    try:
        finish(start(folder, tmp_path / "one", one.url, None), tmp_path / "one")
    finally:
        one.kill()
    assert learnt(whole) == learnt(tmp_path / "one")
    ours, theirs = scored(whole), scored(tmp_path / "one")
    assert [each.token_tables for each in ours] == [each.token_tables for each in theirs]
    assert len(ours) == 6 * 3


def test_kills_of_client_teacher_and_reference_change_no_weight(
    folder: Path, services: tuple[Service, Service], whole: Path, tmp_path: Path
) -> None:
    teacher, reference = services
    cut, torn = tmp_path / "cut", tmp_path / "torn"
    for place in ("rounds/000000", "rounds/000001/scored.early", "checkpoint-2", "rounds/000004/sets.jsonl"):
        run = start(folder, cut, teacher.url, reference.url)
        wait_for(run, (cut / place).exists)
        run.kill()
        run.join()
    finish(start(folder, cut, teacher.url, reference.url), cut)

    run = start(folder, torn, teacher.url, reference.url)
    for place, service in (("000001", reference), ("000003", teacher)):
        wait_for(run, (torn / "rounds" / place).exists)
        service.kill()
        service.start()
    said = finish(run, torn)
    assert any("the reference at" in line for line in said)

    assert learnt(cut) == learnt(torn) == learnt(whole)
    for each in (cut, torn):
        assert [s.token_tables for s in scored(each)] == [s.token_tables for s in scored(whole)]


def test_a_reference_that_is_away_or_another_is_one_line(
    folder: Path, services: tuple[Service, Service], whole: Path, tmp_path: Path
) -> None:
    """Nothing is lost: once it is back, the run goes on and ends as if nothing had happened."""
    teacher, reference = services
    out = tmp_path / "out"
    run = start(folder, out, teacher.url, reference.url, "--patience", 3)
    wait_for(run, (out / "rounds" / "000002").exists)
    reference.kill()
    assert f"the reference at {reference.url}" in finish(run, out, status=1)[-1]
    reference.start(folder / "other")
    said = finish(start(folder, out, teacher.url, reference.url), out, status=1)
    assert said[-1].startswith(f"pad-student: the reference at {reference.url} changed from")
    reference.kill()
    reference.start()
    finish(start(folder, out, teacher.url, reference.url), out)
    assert learnt(out) == learnt(whole)
