"""The status line on a pseudo-terminal of 80 columns, and without a terminal."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pad_student.storage import voice
from pad_student.storage.terminal.phases import Now, Phase, Steps, clock
from pad_student.storage.terminal.status import LINE_EVERY, Status
from pad_student.storage.terminal.stopping import INTERRUPTED, StopSignals, why_not_yet
from support.processes import ENVIRONMENT
from support.terminal import COLUMNS, Terminal
from support.waiting import wait_until


@contextmanager
def live(monkeypatch: pytest.MonkeyPatch, now: Now = time.monotonic) -> Iterator[tuple[Terminal, Status]]:
    with Terminal() as terminal:
        stream = os.fdopen(os.dup(terminal.slave), "w")
        monkeypatch.setattr(sys, "stderr", stream)
        status = Status(now=now)
        try:
            yield terminal, status
        finally:
            status.hide()
            monkeypatch.undo()
            stream.close()


class Clock:
    def __init__(self) -> None:
        self.time, self.asked = 0.0, 0

    def __call__(self) -> float:
        self.asked += 1
        return self.time


def test_the_line_moves_while_the_main_thread_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with live(monkeypatch) as (terminal, status), status.showing(), status.phase("loading the student"):
        terminal.wait_for(lambda text: len(set(re.findall(r"loading the student \d+:\d\d", text))) >= 2)


def test_steps_and_phase_fit_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    with live(monkeypatch) as (terminal, status), status.showing():
        steps = status.begin_steps(20, 8000)
        steps.begin()
        steps.note({"loss": "0.254", "agree": "0.75", "wait": "47 %"})
        with status.phase("samples for the report", 4):
            terminal.wait_for(lambda text: "samples for the report 0/4" in text)
        with status.phase("sampling", 16, 12):
            terminal.wait_for(lambda text: "sampling 12/16" in text)
    assert max(map(len, terminal.drawn)) <= COLUMNS
    assert any("step 20/8000" in line and "loss 0.254 agree 0.75 wait 47 %" in line for line in terminal.drawn)


def test_a_warning_stands_above_the_line_never_glued(monkeypatch: pytest.MonkeyPatch) -> None:
    with live(monkeypatch) as (terminal, status), status.showing(), status.phase("training"):
        terminal.wait_for(lambda text: "training 0:0" in text)
        print("a warning", file=sys.stderr)
        print("downloading 10 %\rdownloading 90 %", end="", file=sys.stderr)
        print(", without an end", file=sys.stderr)
        terminal.wait_for(lambda text: bool(re.search(r"without an end\r?\n.*training \d+:\d\d", text, re.DOTALL)))
    assert terminal.lines[:2] == ["a warning", "downloading 90 %, without an end"]
    assert terminal.lines[-1] == ""


def test_without_a_terminal_a_plain_line_comes_now_and_then() -> None:
    log, now = io.StringIO(), Clock()
    status = Status(log, now)
    status.show()
    steps = status.begin_steps(0, 80)
    for _ in range(20):
        steps.begin()
        now.time += 1
        steps.end()
    steps.begin()
    steps.note({"loss": "0.254", "agree": "0.75", "wait": "47 %"})
    wait_until(lambda: bool(log.getvalue()))
    status.hide()
    assert log.getvalue() == "step 20/80 loss 0.254 agree 0.75 wait 47 % eta 1:00\n"
    assert now.time > LINE_EVERY


def test_a_command_that_is_soon_done_shows_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pad_student.storage.terminal.status.TICK", 0.01)
    now = Clock()
    with live(monkeypatch, now) as (terminal, status):
        with status.showing(), status.phase("starting"):
            now.time = 0.4
            asked = now.asked
            wait_until(lambda: now.asked > asked + 9)
            status.say("done")
        terminal.wait_for(lambda text: "done" in text)
    assert terminal.drawn == ["done"]


def test_results_on_standard_output_are_untouched(capsys: pytest.CaptureFixture[str]) -> None:
    status = Status()
    with status.showing(), status.phase("starting"):
        print("a result")
        status.say("a closing line")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("a result\n", "a closing line\n")


def test_a_step_of_more_than_a_minute_is_explained_once() -> None:
    log, now = io.StringIO(), Clock()
    status = Status(log, now)
    status.show()
    steps = status.begin_steps(0, 4, lambda: "lower n")
    for _ in range(2):
        steps.begin()
        now.time += 61
        wait_until(lambda: "lower n" in log.getvalue())
        steps.end()
    status.hide()
    assert log.getvalue().count("lower n") == 1


def test_the_remaining_time_runs_from_the_first_step() -> None:
    now = Clock()
    steps = Steps(10, 20, now)
    now.time = 1000  # samples from before training
    steps.begin()
    assert (steps.left, steps.facts()) == (None, "")
    now.time += 30
    steps.end()
    steps.begin()
    assert steps.left == 9 * 30
    now.time += 10
    assert steps.facts() == "eta 4:20"
    phase = Phase("sets", 100, 40, now=now)
    now.time += 10
    phase.update(30)
    assert str(phase) + phase.left() == "sets 70/100 0:10 eta 0:10"
    assert [clock(seconds) for seconds in (5, 3725, 90_061)] == ["0:05", "1:02:05", "1d 1:01:01"]


def test_ctrl_c_ends_a_phase_that_may_stop_at_once() -> None:
    status = Status(io.StringIO())
    signals = StopSignals(status, exits=False)
    signals.start()
    try:
        with pytest.raises(KeyboardInterrupt), status.phase("sampling", stops_at_once=True):
            signal.raise_signal(signal.SIGINT)
        wait_until(lambda: bool(said(status)))
        assert "stopping while sampling" in said(status)
    finally:
        signals.stop()


def test_ctrl_c_in_training_says_after_what_and_how_long() -> None:
    now = Clock()
    status = Status(io.StringIO(), now)
    signals = StopSignals(status, exits=False)
    before = signal.getsignal(signal.SIGINT)
    signals.start()
    steps = status.begin_steps(20, 80)
    try:
        steps.begin()
        now.time += 12
        steps.end()
        steps.begin()
        with status.phase("training", 4, 1):
            signal.raise_signal(signal.SIGINT)
            wait_until(lambda: bool(said(status)))
        assert "stopping after step 22 (training 1/4 0:00), in about 0:12, with a checkpoint" in said(status)
        assert signal.getsignal(signal.SIGINT) is before
        with pytest.raises(KeyboardInterrupt), status.phase("sampling", stops_at_once=True):
            raise AssertionError("the next phase that may stop does not begin")
    finally:
        signals.stop()


def test_one_of_several_processes_never_stops_alone() -> None:
    status = Status(io.StringIO())
    signals = StopSignals(status, alone=False, exits=False)
    signals.start()
    status.begin_steps(0, 2)
    try:
        with status.phase("sampling", 4, stops_at_once=True):
            signal.raise_signal(signal.SIGINT)
            assert "after step 1 (sampling 0/4 0:00)" in why_not_yet(status)
        assert status.stop_asked
    finally:
        signals.stop()


STUCK = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests without it
from pad_student.storage.terminal import stopping
from pad_student.storage.terminal.status import Status

class Stuck:
    def write(self, text): threading.Event().wait()
    def flush(self): pass

status = Status(Stuck())
stopping.StopSignals(status).start()
status.show()
for _ in range(2):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
    except KeyboardInterrupt:
        pass
threading.Event().wait()
"""

IN_TIME = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests without it
from pad_student.storage.terminal import stopping
from pad_student.storage.terminal.status import Status

stopping.GRACE = 60
signals = stopping.StopSignals(Status())
signals.start()
try:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    signals.stop()
    time.sleep(1)
    print("saved")
"""


def test_a_second_ctrl_c_ends_a_process_that_is_stuck() -> None:
    """Its main thread does not come back, and another one holds the line while it writes."""
    assert subprocess.run([sys.executable, "-c", STUCK], timeout=60, env=ENVIRONMENT).returncode == INTERRUPTED


def test_a_process_that_ends_in_time_says_its_last_words() -> None:
    found = subprocess.run([sys.executable, "-c", IN_TIME], timeout=60, env=ENVIRONMENT, capture_output=True)
    assert (found.returncode, found.stdout) == (0, b"saved\n")


def test_one_process_of_a_run_speaks_for_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, speaks in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        status = Status(io.StringIO())
        with status.showing():
            assert status.shown == speaks
        voice.say(f"a line of {rank}")
    assert capsys.readouterr().err == "a line of 0\n"


def test_figures_that_are_drawn_stay_as_they_are() -> None:
    """The thread that draws them may be in their middle when the next ones come."""
    steps = Steps(0, 2)
    steps.note({"loss": "1.0", "agree": "0.5"})
    drawn = iter(steps.figures.items())
    next(drawn)
    steps.note({"wait": "3 %", "loss": "0.9"})
    assert list(drawn) == [("agree", "0.5")]
    assert steps.facts() == "loss 0.9 agree 0.5 wait 3 %"


def said(status: Status) -> Any:
    stream: Any = status._given
    return stream.getvalue()
