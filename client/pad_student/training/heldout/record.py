"""The rows of a run's evaluations: the best one is chosen among all, so a continued run needs the same ones."""

from collections.abc import Sequence
from pathlib import Path

from pad_student.preference.config import PADConfig
from pad_student.storage.contents import digest_of
from pad_student.storage.run_directory import bind_to_settings
from pad_student.training.batches import TrainingRow

FILE = "heldout.settings.json"


def bind_to_rows(config: PADConfig, rows: Sequence[TrainingRow]) -> None:
    """Bind the output directory to its held-out rows and its metric, or compare these with an earlier start's.

    Raises:
        OtherRun: naming the one that differs.
    """
    decisive = {
        "set of held-out rows_digest": digest_of([digest_of(row.model_dump(mode="json")) for row in rows]),
        "metric_for_best_model": config.metric_for_best_model,
        "greater_is_better": config.greater_is_better,
    }
    bind_to_settings(Path(str(config.output_dir)) / FILE, decisive)


# pyright: standard
