"""``pad-student report``: one HTML page about a run; the end of a run writes its model card too."""

import logging
from pathlib import Path

from pad_student.commands.common import closing_line
from pad_student.commands.settings import ReportSettings
from pad_student.errors import StudentError
from pad_student.evaluation.report.collect import collect

logger = logging.getLogger(__name__)

FILE = "report.html"


def run(settings: ReportSettings) -> None:
    """Write the page about a run, by default into the run's directory, and print its path.

    Raises:
        ReportError: the directory holds no run, or one that cannot be read.
    """
    out = settings.out or settings.run / FILE
    write(settings.run, out)
    closing_line(f"{out}: open it in a browser")


def write(folder: Path, out: Path) -> None:
    """Write the page, silently."""
    from pad_student.evaluation.report.page import build  # imports torch

    page = build(collect(folder))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")


def write_after(folder: Path) -> None:
    """Write page and model card after training; a failure is logged, never raised."""
    try:
        write(folder, folder / FILE)
        from pad_student.evaluation.report.card import model_card

        model_card(collect(folder)).save(folder / "README.md")
        closing_line(f"{folder / FILE}: what the run shows; open it in a browser")
    except (StudentError, OSError) as error:
        logger.warning("the report could not be written: %s; pad-student report %s writes it later", error, folder)
