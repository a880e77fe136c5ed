"""For every test: no hub, and one thread, so that tests beside each other do not wait for each other's threads."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

torch.set_num_threads(1)

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from support.fakes import byte_tokenizer
from support.processes import TeacherProcess, teacher_process
from support.tiny import tiny_model


@pytest.fixture(autouse=True)
def logs_of_its_own() -> Iterator[None]:
    """What a test makes of the process's logs (a command run in it sets them up) ends with that test."""
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
    """One service for all tests that leave it as they found it."""
    with teacher_process(tiny_directory, tmp_path_factory.mktemp("teacher") / "log") as teacher:
        teacher.wait_until_ready()
        yield teacher
