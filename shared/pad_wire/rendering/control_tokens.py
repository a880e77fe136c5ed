"""Which tokens are markup, and texts tokenised so that only the template's own markup becomes one of them."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pad_wire.rendering.template import Messages, Tokenizer

MARKUP = re.compile(r"(?=.*\w)(?=.*[^\w\s])")  # a name between brackets; Gemma's line breaks are added tokens too
PRIVATE_USE = range(0xE000, 0xF900)  # characters without a meaning: no text of note has all of them


@dataclass(frozen=True, slots=True)
class HiddenText:
    """Texts in which each control token's spelling is replaced by a mark; ``mark`` is in none of them."""

    texts: Sequence[str]
    mark: str = ""
    spelled: Sequence[str] = ()

    def restored(self, text: str) -> str:
        """``text`` with what was typed in place of its marks."""
        if not self.mark:
            return text
        return re.sub(f"{self.mark}([0-9]+){self.mark}", lambda found: self.spelled[int(found[1])], text)


class ControlTokens:
    """The tokens that are markup in a tokenizer and its template.

    They are the special tokens, and those added tokens that the template writes around every turn: DeepSeek's
    ``<｜User｜>`` is declared as no special token.

    Args:
        tokenizer: the model's.
        rendered: a rendered conversation without control tokens in its contents.
    """

    def __init__(self, tokenizer: Tokenizer, rendered: str) -> None:
        self._tokenizer = tokenizer
        added: Mapping[int, Any] = tokenizer.added_tokens_decoder
        self.special = frozenset(token for token, form in added.items() if form.special)
        used: Iterable[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        self.ids = self.special | {token for token in used if token in added and MARKUP.search(added[token].content)}
        spellings = sorted({added[token].content for token in self.ids} - {""}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, spellings)) or r"(?!)")
        self._spelling = {token: str(added[token].content) for token in self.ids}
        self._normalized = any(added[token].normalized for token in self.ids)
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._unknown = getattr(tokenizer, "unk_token_id", None)
        # Unigram models (T5's, llm-jp's) have their control tokens among the pieces that text is made of.
        self._pieces = self._are_pieces(list(self._spelling.values()))
        self._literal: dict[str, Any] = {}

    def spelling(self, token: int) -> str:
        """A control token's text; empty for any other token."""
        return self._spelling.get(token, "")

    def hide(self, texts: Sequence[str]) -> HiddenText:
        """The texts with a mark in place of each control token's spelling."""
        spans = [self._spans(text) for text in texts]
        if not any(spans):
            return HiddenText(texts)
        everything = set("".join(texts))
        mark = next(chr(code) for code in PRIVATE_USE if chr(code) not in everything)
        spelled: list[str] = []
        marked: list[str] = []
        for text, found in zip(texts, spans, strict=True):
            parts: list[str] = []
            end = 0
            for start, stop in found:
                parts += [text[end:start], f"{mark}{len(spelled)}{mark}"]
                spelled.append(text[start:stop])
                end = stop
            marked.append("".join([*parts, text[end:]]))
        return HiddenText(marked, mark, spelled)

    def token_ids(self, text: str, hidden: HiddenText) -> list[int]:
        """Ids of a rendered text in which ``hidden`` holds what was typed: markup is markup, the rest is text."""
        if not hidden.mark:
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        ids: list[int] = []
        end = 0
        for token, start, stop in self.places(text):
            ids += self.literal_ids(hidden.restored(text[end:start]), "middle" if end else "start")
            ids.append(token)
            end = stop
        return ids + self.literal_ids(hidden.restored(text[end:]), "middle" if end else "start")

    def places(self, text: str, more: Collection[int] = ()) -> list[tuple[int, int, int]]:
        """Each control token in ``text``, or one of ``more``: with its first character and the one after its last."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        rows = zip(found["input_ids"], found["offset_mapping"], strict=True)
        found = [(token, start, stop) for token, (start, stop) in rows if token in self.ids or token in more]
        # A character that the tokenizer does not know is no markup, though its id is that of a special token.
        return [each for each in found if each[0] != self._unknown or self._is_spelled(text, *each)]

    def _is_spelled(self, text: str, token: int, start: int, stop: int) -> bool:
        return text[start:stop].strip() == self.spelling(token)

    def _are_pieces(self, spellings: Sequence[str]) -> bool:
        if self._backend is None:
            return False
        rows = self._tokenizer(spellings, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return any(token in self.ids and token != self._unknown for row in rows for token in row)

    def literal_ids(self, text: str, at: str) -> list[int]:
        """Ids of a text in which nothing is markup.

        Args:
            text: of one content, or a part of it.
            at: its place: at the ``start`` of everything, in the ``middle`` after a control token, or ``inside``
                a text, so that no blank is put in front of it.
        """
        if not text:
            return []
        if at not in self._literal:
            self._literal[at] = self._changed_backend(at)
        backend = self._literal[at]
        if backend is None:
            return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        return list(backend.encode(text, add_special_tokens=False).ids)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        spans = [found.span() for found in self._pattern.finditer(text)]
        if (self._normalized or self._pieces) and self._is_changed_first(text):
            # Such tokens are looked for after normalization: a full-width spelling may be one.
            spans += [
                span for _, *span in self.places(text) if not any(span[0] < b and a < span[1] for a, b in spans)
            ]
        return sorted((start, stop) for start, stop in spans)

    def _is_changed_first(self, text: str) -> bool:
        normalizer = getattr(self._backend, "normalizer", None)
        return normalizer is not None and normalizer.normalize_str(text) != text

    def _changed_backend(self, at: str) -> Any:
        """A copy of the tokenizer for texts at one kind of place; None if the tokenizer itself does as well."""
        if self._backend is None:
            return None
        normalizer, pre_tokenizer = (_state(part) for part in (self._backend.normalizer, self._backend.pre_tokenizer))
        same = (without_blank(normalizer, at), without_blank(pre_tokenizer, at)) == (normalizer, pre_tokenizer)
        if same and self.ids == self.special and not self._pieces:
            return None
        state = json.loads(self._backend.to_str())
        for token in state["added_tokens"]:
            token["special"] = token["special"] or token["id"] in self.ids
        if self._pieces:
            _rename(state, {text: f"{chr(PRIVATE_USE[-1])}{token}" for token, text in self._spelling.items()})
        state |= {"truncation": None, "padding": None, "post_processor": None}
        state |= {name: without_blank(state[name], at) for name in ("normalizer", "pre_tokenizer")}
        changed = self._backend.from_str(json.dumps(state))  # makes a new one
        changed.encode_special_tokens = True
        return changed


def _rename(state: dict[str, Any], names: Mapping[str, str]) -> None:
    """Give tokens of a tokenizer, as JSON, names that no text spells; their ids stay."""
    model: dict[str, Any] = state["model"]
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    vocabulary: Any = model["vocab"]
    if model["type"] == "Unigram":
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    else:
        model["vocab"] = {names.get(piece, piece): token for piece, token in vocabulary.items()}
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if "".join(pair) not in names]


def without_blank(part: Any, at: str) -> Any:
    """A normalizer or pre-tokenizer, as JSON, that puts no blank in front of a text that does not stand there."""
    if at == "start" or part is None:
        return part
    for name in ("normalizers", "pretokenizers"):
        if name in part:
            kept = [without_blank(each, at) for each in part[name]]
            return {**part, name: [each for each in kept if each is not None]}
    inside = at == "inside"
    if part["type"] == "Metaspace" and (inside or part["prepend_scheme"] == "first"):
        return {**part, "prepend_scheme": "never"}
    if part["type"] == "ByteLevel" and inside:
        return {**part, "add_prefix_space": False}
    return None if part["type"] == "Prepend" and inside else part


def hidden_messages(messages: Messages, control: ControlTokens) -> tuple[list[dict[str, str]], HiddenText]:
    """The messages with marks in their contents, and what the marks stand for."""
    hidden = control.hide([message["content"] for message in messages])
    return [dict(message) | {"content": text} for message, text in zip(messages, hidden.texts, strict=True)], hidden


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())
