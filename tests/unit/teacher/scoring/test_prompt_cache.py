"""Prompts that come again are tokenised once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.scoring.prompt_cache import ENTRY_BYTES, PromptCache
from pad_wire import Message
from pad_wire.chat import ChatEncoder, TemplateError
from support.fakes import byte_tokenizer


class Counting(ChatEncoder):
    """An encoder that says what it was asked for."""

    __slots__ = ()
    asked: list[object] = []  # noqa: RUF012 - one for the class, emptied by each test

    def prompt_ids(self, prompt: object) -> list[int]:
        self.asked.append(prompt)
        return super().prompt_ids(prompt)  # type: ignore[arg-type]


@pytest.fixture
def encoder() -> Counting:
    Counting.asked.clear()
    return Counting.of(byte_tokenizer())


def test_a_prompt_that_comes_again_is_not_tokenised_again(encoder: Counting) -> None:
    cache = PromptCache()
    assert cache.ids(encoder, "hi") == cache.ids(encoder, "hi") == encoder.prompt_ids("hi")
    assert encoder.asked == ["hi", "hi"]  # once by the cache and once by this test


def test_what_a_caller_does_to_its_ids_is_not_seen_by_the_next(encoder: Counting) -> None:
    cache = PromptCache()
    for _ in range(3):
        cache.ids(encoder, "hi").clear()
    assert cache.ids(encoder, "hi") == encoder.prompt_ids("hi")


def test_a_refused_conversation_is_refused_every_time(encoder: Counting) -> None:
    cache = PromptCache()
    for _ in range(2):
        with pytest.raises(TemplateError):
            cache.ids(encoder, [Message(role="tool", content="x")])
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("user", "a"), ("user", "b")], [("user", "ab")]),
        ([("user", "a"), ("assistant", "b")], [("assistant", "a"), ("user", "b")]),
        ([("user", "1:a")], [("user", "a")]),
        ([("user", "a4:user1:b")], [("user", "a"), ("user", "b")]),
    ],
)
def test_conversations_that_look_alike_are_told_apart(encoder: Counting, one: list, other: list) -> None:
    cache = PromptCache()
    prompts = [[Message(role=role, content=content) for role, content in turns] for turns in (one, other)]
    for prompt in prompts * 2:
        assert cache.ids(encoder, prompt) == encoder.prompt_ids(prompt)
    assert len(cache) == 2


@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=12), max_size=40))
def test_a_bounded_cache_answers_as_the_tokenizer_does(prompts: list[str]) -> None:
    plain = ChatEncoder.of(byte_tokenizer_once)
    cache = PromptCache(max_bytes=1200)  # an entry takes nearly 300 or more
    for prompt in prompts:
        assert cache.ids(plain, prompt) == plain.prompt_ids(prompt)
        assert len(cache) <= 4


def test_a_prompt_larger_than_the_cache_is_not_kept(encoder: Counting) -> None:
    cache = PromptCache(max_bytes=ENTRY_BYTES + 1000)
    cache.ids(encoder, "hi")
    assert cache.ids(encoder, "hi " * 1000) == encoder.prompt_ids("hi " * 1000)
    assert len(cache) == 1


byte_tokenizer_once = byte_tokenizer()
