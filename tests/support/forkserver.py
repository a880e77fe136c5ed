"""``pad-student`` commands from a fork server, which has imported their modules: a test can start and kill many."""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

NEEDED = ["pad_student.commands.distill", "pad_student.commands.train", "pad_student.training.before_after", "peft"]
NEEDED += ["transformers.models.llama.modeling_llama"]


def start_forked_student(*arguments: Any, log: Path) -> BaseProcess:
    """Start one ``pad-student`` command and append its output to ``log``. The first start takes seconds."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(NEEDED)
    process = server.Process(target=_command, args=(log, [str(each) for each in arguments]))
    process.start()
    return process


def _command(log: Path, arguments: list[str]) -> None:
    import torch

    from pad_student.commands.cli import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    sys.exit(main(arguments))
