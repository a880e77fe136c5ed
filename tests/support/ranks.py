"""The ranks of one distributed run on this machine, from a fork server that has imported their modules."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from support.forkserver import NEEDED


def start_ranks(count: int, work: Callable[..., Any], *arguments: Any, log: Path) -> list[BaseProcess]:
    """Start ``work(*arguments)`` on ``count`` ranks that find each other; the output goes to ``log-RANK``."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(NEEDED)
    port = _free_port()
    ranks = [
        server.Process(target=_as_rank, args=(rank, count, port, f"{log}-{rank}", work, arguments))
        for rank in range(count)
    ]
    for each in ranks:
        each.start()
    return ranks


def end_of(ranks: list[BaseProcess], log: Path, within: float = 60) -> list[int | None]:
    """Wait for their exit statuses. If a rank hangs, all are killed and the test fails."""
    for each in ranks:
        each.join(within)
    hanging = [rank for rank, each in enumerate(ranks) if each.is_alive()]
    for each in ranks:
        each.kill()
    assert not hanging, f"ranks {hanging} hang: {said(log, 0)} {said(log, 1)}"
    return [each.exitcode for each in ranks]


def run_ranks(count: int, work: Callable[..., Any], *arguments: Any, log: Path) -> None:
    """Run ``work(*arguments)`` on ``count`` ranks; each must exit with status 0."""
    statuses = end_of(start_ranks(count, work, *arguments, log=log), log)
    assert set(statuses) == {0}, "".join(said(log, rank) for rank in range(count))


def said(log: Path, rank: int) -> str:
    """The output of one rank, stdout and stderr."""
    path = Path(f"{log}-{rank}")
    return path.read_text() if path.exists() else ""


def student_command(*arguments: str) -> None:
    """One ``pad-student`` command."""
    from pad_student.commands.cli import main

    sys.exit(main(arguments))


def _as_rank(
    rank: int, count: int, port: int, log: str, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    import torch

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    if count > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ |= {name: str(value) for name, value in place.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    work(*arguments)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
