"""Small tokenizers and chat templates of the common kinds, and ids by transformers and jinja alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|bot|>", "<unk>"]
WORDS = ["Red", "▁Red", "Green", "▁Green", "▁a", "▁▁", "is", "▁is", "as", "ist", "user", "Use", "er"]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<s>[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' </s>' }}{% endif %}{% endfor %}"
)
GLM = (
    "{% for m in messages %}{{ ('<|user|>' if m.role == 'user' else '<|bot|>') + '\n' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|bot|>\n' }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if loop.last and m.role == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "zephyr": ZEPHYR, "llama2": LLAMA2, "glm": GLM, "thinking": THINKING}
TOKENIZERS = ("byte level", "prepend", "metaspace first", "metaspace always", "nfkc", "unigram")


def tokenizer_of(kind: str, template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of one of the kinds in ``TOKENIZERS``, with a template of ``TEMPLATES``."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    normalized = kind == "nfkc"
    if kind in ("byte level", "nfkc"):
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        words = [word.replace("▁", "Ġ") for word in WORDS] + ["ĊĊ", "Ġ<"]
        made = Tokenizer(_bpe(models, alphabet, words))
        split = pre_tokenizers.Split(Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|\s*[\r\n]+|\s+(?!\S)|.|\s+"), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
        made.decoder = decoders.ByteLevel()
        made.normalizer = normalizers.NFKC() if normalized else normalizers.NFC()
    else:
        letters = ["▁", *(chr(code) for code in range(33, 127))]
        fallback = [f"<0x{byte:02X}>" for byte in range(256)]
        if kind == "unigram":  # its control tokens are pieces of the model, at no cost
            scores = dict.fromkeys([*letters, *WORDS, *fallback], -9.0) | dict.fromkeys(SPECIAL, 0.0)
            made = Tokenizer(models.Unigram(list(scores.items()), list(scores).index("<unk>"), byte_fallback=True))
            made.normalizer = normalizers.NFKC()
        else:
            made = Tokenizer(_bpe(models, letters + fallback, WORDS, byte_fallback=True))
        if kind == "unigram":
            made.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
        elif kind == "prepend":
            made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            scheme: Any = kind.removeprefix("metaspace ")
            made.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split=False)
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    made.add_special_tokens([AddedToken(text, special=True, normalized=normalized) for text in SPECIAL])
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATES.get(template, template)
    )


def by_transformers(tokenizer: Any, messages: list[dict[str, str]], *, generation: bool = False) -> list[int]:
    """Ids of a conversation as transformers renders and tokenises it whole."""
    return tokenizer.apply_chat_template(messages, add_generation_prompt=generation, tokenize=True, return_dict=False)


def _bpe(models: Any, letters: list[str], words: list[str], **options: Any) -> Any:
    """Byte pairs that join the letters of each word from left to right, and a blank with a whole word."""
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges: list[tuple[str, str]] = []
    for word in words:
        if word[1:] in vocabulary:
            vocabulary[word] = len(vocabulary)
            merges.append((word[0], word[1:]))
            continue
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    return models.BPE(vocab=vocabulary, merges=merges, **options)
