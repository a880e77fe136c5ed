"""A tokenizer's ids are those of the checkpoint's own file, and its texts come back."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers

from pad_torch.findings import NotAsSaved
from pad_torch.own_tokenizer import HARD_TEXTS, load_tokenizer
from pad_wire.model_names import is_missing_directory
from support.fakes import byte_tokenizer


def saved(folder: Path, **settings: object) -> Path:
    byte_tokenizer().save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


@pytest.mark.parametrize("name", ["LlamaTokenizerFast", "LlamaTokenizer", "PreTrainedTokenizerFast"])
def test_the_files_own_ids_are_taken_whatever_the_class(tmp_path: Path, name: str) -> None:
    tokenizer = load_tokenizer(str(saved(tmp_path, tokenizer_class=name)))
    file = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in (*HARD_TEXTS, "Red,greenandblue."):
        assert (
            tokenizer(text, add_special_tokens=False)["input_ids"] == file.encode(text, add_special_tokens=False).ids
        )


def test_a_tokenizer_that_loses_text_is_refused_unless_allowed(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    file.normalizer = normalizers.Lowercase()
    file.save(str(folder / "tokenizer.json"))
    with pytest.raises(NotAsSaved, match=r"does not give .* back.*--allow tokenizer-round-trip"):
        load_tokenizer(str(folder))
    load_tokenizer(str(folder), allow=["tokenizer-round-trip"])


def test_a_gguf_file_is_no_missing_directory(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    assert is_missing_directory(str(path))
    path.write_bytes(b"GGUF")
    assert not is_missing_directory(str(path))
    with pytest.raises(ValueError, match=r"model\.gguf is a GGUF file"):
        load_tokenizer(str(path))


# pyright: standard
