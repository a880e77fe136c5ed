"""``pad-student report``: one HTML page about a run; the end of a run writes its model card too."""

import logging
from pathlib import Path

from pad_student.commands.common import closing_line
from pad_student.commands.settings import ReportSettings
from pad_student.errors import StudentError
from pad_student.evaluation.report.collect import collect
from pad_student.storage.contents import digest_of
from pad_student.storage.terminal.status import STATUS

logger = logging.getLogger(__name__)

FILE = "report.html"
CARD = "README.md"


def run(settings: ReportSettings) -> None:
    """Write the page about a run, by default into the run's directory, and print its path.

    Next to it the model card is written anew, with evaluations that were made since, if it is as it was written.

    Raises:
        ReportError: the directory holds no run, or one that cannot be read.
    """
    out = settings.out or settings.run / FILE
    write(settings.run, out)
    if not settings.out and _is_as_written(settings.run / CARD):
        _write_card(settings.run)
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
        with STATUS.phase("writing the report"):
            write(folder, folder / FILE)
            _write_card(folder)
        closing_line(f"{folder / FILE}: what the run shows; open it in a browser")
    except (StudentError, OSError) as error:
        logger.warning("the report could not be written: %s; pad-student report %s writes it later", error, folder)


def _write_card(folder: Path) -> None:
    from pad_student.evaluation.report.card import model_card

    text = str(model_card(collect(folder)))
    (folder / CARD).write_text(text + _mark(text), encoding="utf-8")


def _is_as_written(card: Path) -> bool:
    """Whether a card is there that nobody has changed."""
    if not card.exists():
        return False
    text, comment, rest = card.read_text(encoding="utf-8").rpartition("\n<!--")
    return comment + rest == _mark(text)


def _mark(text: str) -> str:
    """The end of a card, which tells whether the text before it is the one that was written."""
    return f"\n<!-- Written by pad-service, which leaves a changed card alone: {digest_of(text)} -->\n"
