"""The limit of open files: raised as far as it goes, and how many connections fit below it."""

import resource
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

OWN_FILES = 96  # libraries, devices, the cache, usage, and what a runtime opens


@dataclass(frozen=True, slots=True)
class Room:
    """The connections that may be open at the same time, and how many are accepted in one step."""

    connections: int
    backlog: int


def room_for(connections: int) -> Room:
    """Raise the soft limit of open files to the hard one, and lower ``connections`` to fit; a log entry says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = hard if hard != resource.RLIM_INFINITY else 2**20
    backlog = max(16, min(2048, limit // 8))
    fitting = max(16, min(connections, limit - OWN_FILES - backlog))
    if fitting < connections:
        log.warning("the limit of open files allows fewer connections", connections=fitting, open_files=limit)
    return Room(fitting, backlog)
