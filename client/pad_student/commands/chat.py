"""``pad-student chat``: talk to a model; each line of standard input is a turn, and answers stream."""

import sys
from collections.abc import Iterator
from typing import Any, TextIO

from pad_student.commands.common import closing_line, template_options
from pad_student.commands.settings import ChatSettings
from pad_student.errors import SamplingError
from pad_student.storage.terminal.status import STATUS
from pad_wire import Message

NEW = "/new"


def run(settings: ChatSettings) -> None:
    """Answer each line until standard input ends; ``/new`` begins another conversation.

    Raises:
        SamplingError: the model cannot be loaded.
        TemplateError: its chat template refuses the conversation.
    """
    from transformers.utils.logging import disable_progress_bar

    from pad_student.sampling.generate import load_student

    disable_progress_bar()
    student = load_student(settings.model, template=template_options(settings), allow=settings.allow)
    STATUS.hide()  # from here on the terminal is the conversation's
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        closing_line(f"{settings.model}: write a line; {NEW} begins another conversation, Ctrl-D ends")
    talk(settings, student, _lines(sys.stdin, at_terminal), sys.stdout)


def talk(settings: ChatSettings, student: Any, lines: Iterator[str], out: TextIO) -> None:
    """Answer the lines of one person on ``out``."""
    import torch

    torch.manual_seed(settings.seed)
    begin = [Message(role="system", content=settings.system)] if settings.system else []
    turns = list(begin)
    for line in lines:
        if line == NEW:
            turns = list(begin)
            continue
        turns.append(Message(role="user", content=line))
        answer = _answer(settings, student, turns, out)
        turns.append(Message(role="assistant", content=answer or " "))


def _lines(stream: TextIO, at_terminal: bool) -> Iterator[str]:
    while True:
        if at_terminal:
            print("> ", end="", file=sys.stderr, flush=True)
        line = stream.readline()
        if not line:
            return
        if line.strip():
            yield line.rstrip("\n")


def _answer(settings: ChatSettings, student: Any, turns: list[Message], out: TextIO) -> str:
    """Sample one answer, and write it as it comes."""
    import torch

    from pad_student.sampling.generate import context_of, end_tokens

    encoder, model = student.encoder, student.model
    ids = encoder.prompt_ids(turns)
    room = context_of(model) - len(ids)
    if room < 1:
        raise SamplingError(f"the conversation fills the context of {context_of(model):.0f} tokens; begin another")
    tokens = torch.tensor([ids], device=model.device)
    ends = end_tokens(model, encoder)
    streamer, written = _streamer(encoder.tokenizer, out)
    sampled = {"temperature": settings.temperature, "top_k": 0, "top_p": 1.0} if settings.temperature > 0 else {}
    model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        streamer=streamer,
        do_sample=settings.temperature > 0,
        max_new_tokens=int(min(settings.max_new_tokens, room)),
        eos_token_id=sorted(ends),
        pad_token_id=encoder.end_of_turn,
        **sampled,
    )
    return "".join(written)


def _streamer(tokenizer: Any, out: TextIO) -> tuple[Any, list[str]]:
    """What writes an answer's text word by word, and the texts so far."""
    from transformers import TextStreamer

    written: list[str] = []

    class Streamer(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            written.append(text)
            print(text, end="\n" if stream_end else "", file=out, flush=True)

    return Streamer(tokenizer, skip_prompt=True, skip_special_tokens=True), written


# pyright: standard
