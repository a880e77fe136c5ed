"""Makes a model directory: a shape's random weights, and a tokenizer learnt from Python's own sources."""

import json
import shutil
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from benchmarks.harness.shapes import SHAPES

TOKENS = 49_152  # in the tokenizer; a model's vocabulary may be larger
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_model(shape: str, dtype: str, device: str, root: Path) -> Path:
    """The directory of ``shape``'s model, made if missing. Weights depend on shape, dtype and the type of device."""
    folder = root / f"{shape}-{dtype}-{torch.device(device).type}"
    tokenizer = make_tokenizer(root)
    if (folder / "made").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    config = AutoConfig.for_model(SHAPES[shape].kind, **SHAPES[shape].config())
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "made").touch()
    del model
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()  # else this process would keep memory that the contenders need
    return folder


def make_tokenizer(root: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a ChatML template, made if missing."""
    folder = root / "tokenizer"
    if not (folder / "made").exists():
        learnt = Tokenizer(models.BPE())
        learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        learnt.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=TOKENS, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
        learnt.train_from_iterator([source_text()], trainer)
        learnt.add_special_tokens([f"<|unused_{i}|>" for i in range(TOKENS - learnt.get_vocab_size())])
        end, start, turn = SPECIAL
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=learnt, bos_token=start, eos_token=turn, pad_token=end, chat_template=TEMPLATE
        )
        tokenizer.save_pretrained(folder)
        (folder / "made").touch()
    return AutoTokenizer.from_pretrained(folder)


@cache
def source_text() -> str:
    """The sources of Python's standard library without its tests: text that every machine has."""
    library = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "test", "tests", "idle_test"}
    files = (file for file in sorted(library.rglob("*.py")) if not skipped & set(file.relative_to(library).parts))
    return "\n\n".join(file.read_text(encoding="utf-8", errors="ignore") for file in files)


def read_config(folder: Path) -> dict[str, Any]:
    """A model directory's config."""
    return json.loads((folder / "config.json").read_text())
