"""Control tokens that a tokenizer's model has among its own pieces, and characters that it does not know."""

from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pad_wire.chat import ChatEncoder

LETTERS = [chr(code) for code in range(33, 127)]
SPECIAL = ["<unk>", "<s>", "</s>"]
PIECES = [*SPECIAL, *LETTERS, "</", "s>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m.role + ':' + m.content + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
VOCABULARY = {piece: number for number, piece in enumerate(PIECES)}
MODELS: dict[str, Any] = {
    "unigram": models.Unigram([(piece, 0.0 if piece in SPECIAL else -9.0) for piece in PIECES], 0),
    "pairs": models.BPE(vocab=VOCABULARY, merges=[("<", "/"), ("s", ">"), ("</", "s>")], unk_token="<unk>"),
    "word piece": models.WordPiece(
        vocab=VOCABULARY | {f"##{letter}": len(PIECES) + number for number, letter in enumerate(LETTERS)},
        unk_token="<unk>",
    ),
}


@pytest.fixture(params=MODELS)
def encoder(request: pytest.FixtureRequest) -> ChatEncoder:
    made = Tokenizer(MODELS[request.param])
    made.pre_tokenizer = pre_tokenizers.Sequence([])
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=TEMPLATE
    )
    return ChatEncoder.of(tokenizer)


def tokens(encoder: ChatEncoder, ids: list[int]) -> list[str]:
    plain: Any = encoder.tokenizer
    return [token.removeprefix("##") for token in plain.convert_ids_to_tokens(ids)]


@pytest.mark.parametrize("typed", ["</s>", "a</s>b", "x<s></s>", "<unk>y"])
def test_a_typed_piece_is_no_control_token(encoder: ChatEncoder, typed: str) -> None:
    (row,) = encoder.response_ids([typed], [False])
    assert not encoder.control.ids.intersection(row)
    assert "".join(tokens(encoder, row)) == typed
    assert tokens(encoder, encoder.prompt_ids(typed)).count("</s>") == 1


def test_a_character_that_is_not_known_is_no_markup(encoder: ChatEncoder) -> None:
    found = tokens(encoder, encoder.prompt_ids("é</s>a"))
    assert "".join(found) in ("<s>user:<unk></s>a</s><s>assistant:", "<s><unk></s><s>assistant:")
    assert found.count("</s>") == 1
