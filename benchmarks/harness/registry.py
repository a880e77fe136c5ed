"""The contenders of each comparison: the module, the Python that runs it, and a description."""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.environment import ROOT


@dataclass(frozen=True, slots=True)
class Contender:
    """One program of a comparison.

    ``module`` is a module of ``benchmarks.contenders``. ``python`` is ``own`` for the interpreter that runs the
    benchmark; any other value names an environment that ``install_peers.sh`` makes.
    """

    module: str
    python: str
    description: str

    def interpreter(self, chosen: dict[str, Path | None]) -> Path:
        """The Python that runs it: the chosen one, or else the one that ``install_peers.sh`` makes."""
        if self.python == "own":
            return Path(sys.executable)
        return chosen.get(self.python) or ROOT / f".venv-{self.python}" / "bin" / "python"


SCORING = {
    "plain": Contender("plain", "own", "transformers, one (prompt, response) at a time, full logits"),
    "padded": Contender("padded", "own", "transformers, the n responses as a padded batch, full logits"),
    "vllm": Contender("vllm_prompt_logprobs", "vllm", "vLLM prompt_logprobs, one request a response"),
    "vllm-two-stage": Contender(
        "vllm_two_stage", "vllm", "vLLM, prompts first, then responses from its prefix cache"
    ),
    "authors": Contender("authors", "own", "PAD authors' scripts: one prompt at a time, pairs one by one"),
    "lm-eval": Contender("lm_eval_hf", "lm-eval", "lm-evaluation-harness' HFLM"),
    "ours": Contender("ours", "own", "our engine, in-process"),
    "ours-vllm": Contender("ours_vllm", "vllm", "our engine on vLLM, in-process"),
    "http": Contender("http_service", "own", "our service over HTTP on loopback"),
}

REFERENCE = "float32"
PARITY = {
    REFERENCE: Contender("plain_float32", "own", "plain transformers in float32, one response at a time"),
    "ours": SCORING["ours"],
    "ours-vllm": SCORING["ours-vllm"],
}

UPDATES = {
    "plain": Contender("update_plain", "own", "plain loop: padded rows, each with its prompt, full logits"),
    "trl": Contender("update_trl", "trl", "TRL's DPO trainer, pairs of the same tokens, reference precomputed"),
    "ours": Contender("update_ours", "own", "PADTrainer"),
    "ours-bounded": Contender("update_ours", "own", "PADTrainer, at most 400 tokens a forward pass"),
}

PREFERENCES = {"trl": Contender("preferences_trl", "trl", "TRL's SFT, DPO and SimPO (its CPO trainer)")}
