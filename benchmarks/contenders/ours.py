"""Our embedded engine in this process: all sets in one call."""

from contextlib import ExitStack

from benchmarks.contenders import our_engine
from benchmarks.contenders.worker import Job, LoadedContender, run_worker
from pad_teacher.runtime.allocator import keep_freed_memory


def load(job: Job, stack: ExitStack) -> LoadedContender:
    keep_freed_memory()  # as ``pad-teacher serve`` does
    return LoadedContender(our_engine.parts_of(our_engine.embedded(job), job))


if __name__ == "__main__":
    run_worker(load)
