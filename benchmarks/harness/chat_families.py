"""Chat templates and tokenizers of common families, and ids that transformers and this project do not compute.

A template that a tokenizer's package lacks is written here in the family's published format.
"""

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

DAY = date(2024, 7, 26)

LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role)"
    " + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GPT_OSS = (
    "{{ '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}"
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' }}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' }}{% endif %}{{ m.content }}"
    "{{ '<|return|>' if loop.last and m.role == 'assistant' and not add_generation_prompt else '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
GLM = (
    "[gMASK]<sop>{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
R1_DISTILL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{% else %}{{ '<｜Assistant｜>' + m.content + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """One family: the folder of its tokenizer, and what the folder lacks.

    Attributes:
        folder: of ``tokenizer.json`` and ``tokenizer_config.json``.
        template: instead of the folder's own.
        added: special tokens that a template needs and the tokenizer lacks; ``rstrip`` if they take in blanks.
        ends: the texts of the tokens that the model declares as ends.
        arguments: of the template.
        next_role_ends: whether the next turn's first token closes an answer.
        blank_is_the_answers: whether the template puts a blank before an answer that its generation prompt lacks.
    """

    folder: str
    template: str = ""
    added: tuple[str, ...] = ()
    rstrip: bool = False
    ends: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    next_role_ends: bool = False
    blank_is_the_answers: bool = False

    def tokenizer(self, root: Path) -> Tokenizer:
        """The tokenizer of the file, with nothing of transformers."""
        made = Tokenizer.from_file(str(root / self.folder / "tokenizer.json"))
        made.add_special_tokens([AddedToken(text, rstrip=self.rstrip, normalized=False) for text in self.added])
        return made

    def named(self, root: Path) -> dict[str, str]:
        """The texts of ``bos_token`` and ``eos_token``."""
        config = json.loads((root / self.folder / "tokenizer_config.json").read_text())
        texts = {name: config.get(name) for name in ("bos_token", "eos_token")}
        return {name: each["content"] if isinstance(each, dict) else each for name, each in texts.items() if each}

    def template_of(self, root: Path) -> str:
        """The template as Jinja text."""
        config = json.loads((root / self.folder / "tokenizer_config.json").read_text())
        return (
            self.template or config.get("chat_template") or (root / self.folder / "chat_template.jinja").read_text()
        )

    def rendered(self, root: Path, messages: list[dict[str, str]]) -> str:
        """A conversation as text, by Jinja alone, without a generation prompt."""
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["strftime_now"] = DAY.strftime
        environment.globals["raise_exception"] = _refuse
        template = environment.from_string(self.template_of(root))
        return template.render(messages=messages, add_generation_prompt=False, **self.named(root), **self.arguments)


FAMILIES = {
    "Llama 2": Family("llama2", LLAMA2, blank_is_the_answers=True),
    "Zephyr, TinyLlama": Family("llama2", ZEPHYR),
    "Llama 3": Family("llama3"),
    "Llama 3.1": Family("llama3_1"),
    "Llama 3.2": Family("llama3_2"),
    "Qwen 2.5": Family("qwen2_5"),
    "Qwen 3": Family("qwen3"),
    "Qwen 3, enable_thinking false": Family("qwen3", arguments={"enable_thinking": False}),
    "Gemma 2": Family("gemma2", GEMMA),
    "Gemma 3": Family("gemma3"),
    "Mistral Nemo": Family("mistral_nemo"),
    "Phi 3": Family(
        "llama2", PHI, ("<|user|>", "<|assistant|>", "<|end|>", "<|system|>"), rstrip=True, ends=("<|end|>",)
    ),
    "GLM 4": Family(
        "qwen2_5",
        GLM,
        ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|observation|>"),
        ends=("<|endoftext|>", "<|user|>", "<|observation|>"),
        next_role_ends=True,
    ),
    "gpt-oss": Family("gptoss", GPT_OSS, ends=("<|return|>", "<|call|>")),
    "DeepSeek V3": Family("deepseek_v3"),
    "DeepSeek R1 distill": Family("deepseek_v3", R1_DISTILL, ("<think>", "</think>")),
    "SmolLM 2": Family("smollm2"),
}


def _refuse(message: str) -> None:
    raise ValueError(message)
