"""Two tokenizers that differ in kind, vocabulary and chat template; each gives back any Unicode text unchanged."""

import json
import random
from string import ascii_lowercase, punctuation

import world
from grade import CLASSES, NAMES, NUMBERS, OPPOSITES, PLACES, RUDE, TEMPLATES, TIMES
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pad_wire.question import QuestionForm
from pad_wire.scoring import LETTERS

FORM = QuestionForm()
QUESTION = f"{FORM.messages('', ['one', 'two'])[0].content} {FORM.answer}"

# A word takes the blank before it along, so that every word of the world is one token in a text and one at its start.
WORDS = Regex(r"\n+| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|[^\S\n]+")

TEACHER_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
STUDENT_TEMPLATE = (
    "{{ '<s>' }}{% for message in messages %}"
    "{{ '[' + message['role'] + ']' + message['content'] + ('</s>' if message['role'] == 'assistant' else '') }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


def corpus() -> list[str]:
    """Every word of the world with and without a blank before it, often enough to become one token."""
    words = {*NUMBERS, *OPPOSITES, *NAMES, *PLACES, *RUDE, *TIMES, *CLASSES, "hello"}
    words |= {word for group in CLASSES.values() for word in group}
    sentences = [QUESTION, *world.SYSTEM_PROMPTS]
    rng = random.Random(0)
    for kind in TEMPLATES:
        for _ in range(30):
            prompt = world.training_instruction(rng, kind)
            sentences += [prompt, world.best_answer(prompt)]
    for sentence in sentences:
        words |= set("".join(c if c.isalpha() else " " for c in sentence).split())
    spaced = [form for word in sorted(words) for form in (word, " " + word)]
    return spaced * 3 + [QUESTION] * 3


def teacher_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE."""
    special = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(WORDS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return _wrapped(tokenizer, TEACHER_TEMPLATE, special, end="<|end|>", length=1024)


def student_tokenizer() -> PreTrainedTokenizerFast:
    """Character BPE that falls back to bytes for unseen characters."""
    special = ["<unk>", "<pad>", "<s>", "</s>", "[system]", "[user]", "[assistant]"]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(WORDS, "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        # The byte tokens are vocabulary, not commands: as special tokens they would vanish from decoded text.
        special_tokens=special,
        initial_alphabet=[*LETTERS, *ascii_lowercase, *punctuation],
        show_progress=False,
    )
    tokenizer.train_from_iterator([word for word in corpus() if "\n" not in word], trainer)
    return _wrapped(_with_bytes(tokenizer), STUDENT_TEMPLATE, special, end="</s>", length=512)


def _with_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The trained BPE with the 256 byte tokens that its trainer leaves out."""
    spec = json.loads(tokenizer.to_str())
    vocab = spec["model"]["vocab"]
    for byte in range(256):
        vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    return Tokenizer.from_str(json.dumps(spec))


def _wrapped(
    tokenizer: Tokenizer, template: str, special: list[str], end: str, length: int
) -> PreTrainedTokenizerFast:
    begin = special[special.index(end) - 1]
    roles = special[special.index(end) + 1 :]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=template,
        bos_token=begin,
        eos_token=end,
        pad_token=special[special.index(begin) - 1],
        unk_token="<unk>" if "<unk>" in special else None,
        additional_special_tokens=roles,
        clean_up_tokenization_spaces=False,
        model_max_length=length,
    )
