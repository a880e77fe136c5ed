"""Our embedded engine in this process: all sets in one call."""

from contextlib import ExitStack

import our_engine
from worker import Job, Way, work

from pad_teacher.runtime.allocator import keep_freed_memory


def load(job: Job, stack: ExitStack) -> Way:
    keep_freed_memory()  # as ``pad-teacher serve`` does
    return Way(our_engine.parts_of(our_engine.embedded(job), job))


if __name__ == "__main__":
    work(load)
