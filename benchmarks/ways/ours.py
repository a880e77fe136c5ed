"""Our engine in this process: all sets in one call."""

from contextlib import ExitStack

from our_engine import OurEngine
from worker import Job, Part, Way, work

from pad_teacher.allocator import keep_freed_memory


def load(job: Job, stack: ExitStack) -> Way:
    keep_freed_memory()  # as ``pad-teacher serve`` does
    engine, sets = OurEngine(job), job.sets
    parts = {"likelihood": Part(lambda: engine.likelihood(sets), log_probs=lambda found: found)}
    if job.selection:
        # Pairs in one order are what the authors ask, one question with all responses is what costs least, and all
        # its rotations are what the service asks by default.
        for form in ("pairwise", "single", "cyclic"):
            parts[form] = Part(lambda form=form: engine.questions(sets, form))
            parts[f"likelihood + {form}"] = Part(
                lambda form=form: engine.both(sets, form), log_probs=lambda found: found
            )
    engine.likelihood([sets[0] | {"response_ids": sets[0]["response_ids"][:1]}])
    return Way(parts)


if __name__ == "__main__":
    work(load)
