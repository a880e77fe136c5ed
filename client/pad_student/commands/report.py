"""``pad-student report``: one HTML page about a run, or a served one about many; a run's end writes its card too."""

import logging
from pathlib import Path

from pad_student.commands.common import closing_line
from pad_student.commands.settings import ReportSettings
from pad_student.errors import ConfigError, StudentError, UsageError
from pad_student.evaluation.report.collect import collect
from pad_student.storage.contents import digest_of
from pad_student.storage.terminal.status import STATUS

logger = logging.getLogger(__name__)

FILE = "report.html"
CARD = "README.md"


def run(settings: ReportSettings) -> None:
    """Write the page about a run, by default into the run's directory, and print its path; or serve the page of runs.

    Next to it the model card is written anew, with evaluations that were made since, if it is as it was written.

    Raises:
        ReportError: the directory holds no run, or one that cannot be read.
        UsageError: there is no folder of runs to serve.
        KeyboardInterrupt: Ctrl-C has ended the server.
    """
    if settings.serve:
        serve(settings.serve, settings.host, settings.port)
    if settings.run:
        _write(settings.run, settings.out)


def _write(folder: Path, given: Path | None) -> None:
    out = given or folder / FILE
    write(folder, out)
    if not given and _is_as_written(folder / CARD):
        _write_card(folder)
    closing_line(f"{out}: open it in a browser")


def serve(folder: Path, host: str, port: int) -> None:
    """Serve the page of runs until Ctrl-C.

    Raises:
        UsageError: ``folder`` is no directory.
        ConfigError: nothing can listen there.
        KeyboardInterrupt: at Ctrl-C.
    """
    if not folder.is_dir():
        raise UsageError(f"serve: {folder}: {'no directory' if folder.exists() else 'no such directory'}")
    from pad_student.evaluation.live.folder import RunFolder
    from pad_student.evaluation.live.server import RunsServer

    try:
        server = RunsServer(runs := RunFolder(folder), host, port)
    except OSError as error:
        raise ConfigError(f"nothing can listen on {host}, port {port}: {error.strerror}") from None
    with server, STATUS.phase("reading the runs", stops_at_once=True):
        runs.runs()
        STATUS.hide()  # nothing is worked on from here on
        closing_line(f"{server.url}: the runs below {folder}; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the page of runs is no longer served") from None


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
