"""For every test: no hub, one thread, the folder as a marker, and torch only if the test imports it."""

import os

# Libraries read these once, when they are imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tests that run in parallel must not wait for each other's threads

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from support.fakes import byte_tokenizer
from support.processes import TeacherProcess, teacher_process
from support.tiny import tiny_model
from support.without_torch import skip_tests_that_import

TESTS = Path(__file__).parent

settings.register_profile("any machine", deadline=None)  # one that is slow, or has much else to do, is no failure
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-torch", action="store_true", help="skip every test that imports torch")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("without_torch"):
        skip_tests_that_import("torch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its folder's name, so that ``-m unit`` and ``-m "not load"`` select folders."""
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])


@pytest.fixture(autouse=True)
def logs_of_its_own() -> Iterator[None]:
    """Undo what a test does to the process's logging: a command that runs in it configures logs."""
    root, configured, config = logging.getLogger(), structlog.is_configured(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [each for each in root.handlers if each not in handlers]:
        if not type(handler).__module__.startswith("_pytest"):  # its own, put up anew for each phase of a test
            root.removeHandler(handler)
    root.setLevel(level)
    if configured:
        structlog.configure(**config)
    else:
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a byte tokenizer, as a Hugging Face directory."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer, model = byte_tokenizer(), tiny_model()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shared_teacher(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeacherProcess]:
    """One service for all tests that do not change its state."""
    with teacher_process(tiny_directory, tmp_path_factory.mktemp("teacher") / "log") as teacher:
        teacher.wait_until_ready()
        yield teacher
