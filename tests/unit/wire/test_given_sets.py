"""Response sets are taken in the shapes that people have."""

from typing import Any

import numpy as np
import pytest

from pad_wire import Message, Response, SampledSet, ScoredResponse
from pad_wire.given import NoSet, set_of, sets_of

WANTED = SampledSet(id="0", prompt="why?", responses=["yes", {"text": "no", "finished": False}])


@pytest.mark.parametrize(
    "given",
    [
        WANTED,
        {"prompt": "why?", "responses": ["yes", {"text": "no", "finished": False}]},
        {"id": 0, "prompt": "why?", "responses": ["yes", Response(text="no", finished=False)], "source": "lab"},
        ("why?", ["yes", {"text": "no", "finished": False}]),
        ["why?", ("yes", {"content": "no", "role": "assistant", "finished": False})],
        {"prompt": "why?", "responses": '["yes", {"text": "no", "finished": false}]'},
        {"prompt": "why?", "responses": np.array(["yes", {"text": "no", "finished": False}], object)},
        {"prompt": "why?", "completions": [{"response": "yes"}, {"response": "no", "finished": False}]},
    ],
)
def test_a_set_may_have_any_of_these_shapes(given: Any) -> None:
    assert list(sets_of([given])) == [WANTED]


def test_chosen_comes_before_rejected_as_text_or_conversation() -> None:
    texts = set_of({"prompt": "why?", "chosen": "yes", "rejected": "no"}, "a")
    turns = [{"role": "user", "content": "why?"}]
    whole = {
        name: [*turns, {"role": "assistant", "content": text}]
        for name, text in (("chosen", "yes"), ("rejected", "no"))
    }
    conversations = set_of({"prompt": [Message(role="user", content="why?")], **whole}, "a")
    arrays = set_of({name: np.array(value, object) for name, value in whole.items()} | {"prompt": "why?"}, "a")
    assert [each.text for each in texts.responses] == ["yes", "no"]
    assert texts.responses == conversations.responses == arrays.responses


@pytest.mark.parametrize(("given", "wanted"), [(7, "7"), (0.5, "0.5"), ("x", "x"), (None, "3"), ("", "3")])
def test_an_id_is_any_scalar_or_the_place(given: Any, wanted: str) -> None:
    assert set_of({"id": given, "prompt": "p", "responses": ["r"]}, "3").id == wanted


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"prompt": "why?"},
            "set 0: expected `prompt` with `responses`, or with .*, found prompt",
        ),
        ("why?", "set 0: expected .* a pair"),
        (("why?", "yes"), "expected a list of texts"),
        (5, "set 0: expected .* a pair"),
        (None, "set 0: expected .* a pair"),
        ({"why?", "yes"}, "set 0: expected .* a pair"),
        (b"ab", "set 0: expected .* a pair"),
        (("why?", b"yes"), "expected a list of texts"),
        (("why?", {"yes": 1}), "expected a list of texts"),
        (("why?", np.array("yes")), "expected a list of texts"),
        ({"prompt": "why?", "responses": [3]}, r"responses\[0\]: expected text"),
        ({"prompt": "", "responses": ["a"]}, "prompt: "),
        ({"id": True, "prompt": "p", "responses": ["a"]}, "id: expected text or a number"),
    ],
)
def test_a_value_that_is_no_set_is_one_line(given: Any, said: str) -> None:
    with pytest.raises(NoSet, match=said):
        list(sets_of([given]))


def test_a_result_shows_only_the_fields_that_it_has() -> None:
    scored = ScoredResponse(text="yes", log_likelihood=-1.5, tokens=2, mean_log_likelihood=-0.75)
    assert repr(scored) == (
        "ScoredResponse(text='yes', finished=True, log_likelihood=-1.5, tokens=2, mean_log_likelihood=-0.75)"
    )
