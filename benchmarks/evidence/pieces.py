"""The pieces of the grid: what each changes of ``examples/tinyworld/distill.yaml``, and what it is compared with."""

from dataclasses import dataclass, field
from typing import Any

DEFAULT = "default"


@dataclass(frozen=True)
class Piece:
    """One row of the page: a setting, trained with every seed.

    Attributes:
        says: the row's words.
        changes: settings over those of the demo.
        claim: the section of the page.
        against: the piece that it is compared with, seed by seed and prompt by prompt.
    """

    says: str
    claim: str
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    against: str = DEFAULT


LOSS, ALPHA, SIZE, TEMPERATURE, QUESTION, ANCHOR, ADAPTIVE = (
    "The loss",
    "The weight of the choice",
    "The number of responses",
    "The sampling temperature",
    "The question",
    "The teacher's best response",
    "Prompts that teach little",
)

PIECES: dict[str, Piece] = {
    DEFAULT: Piece("ppd, alpha 0.8, n 4, temperature 0.8, all rotations", "The demo's settings"),
    "vpd": Piece("vpd", LOSS, {"loss": "vpd"}),
    "forward-kl": Piece("forward KL", LOSS, {"loss": "forward_kl"}),
    "reverse-kl": Piece("reverse KL", LOSS, {"loss": "reverse_kl"}),
    "symmetric-kl": Piece("symmetric KL", LOSS, {"loss": "symmetric_kl"}),
    "released-kl": Piece("the divergence of the paper's published code", LOSS, {"loss": "released_kl"}),
    "simpo": Piece("SimPO on the best and the worst response", LOSS, {"loss": "simpo"}),
    "equal-betas": Piece("ppd with both betas 10, as published", LOSS, {"beta_student": 10.0}),
    "alpha-0": Piece("alpha 0: likelihood alone", ALPHA, {"alpha": 0.0}),
    "alpha-0.2": Piece("alpha 0.2", ALPHA, {"alpha": 0.2}),
    "alpha-0.5": Piece("alpha 0.5", ALPHA, {"alpha": 0.5}),
    "alpha-1": Piece("alpha 1: choice alone", ALPHA, {"alpha": 1.0}),
    "relative": Piece("relative likelihood next to the choice", ALPHA, {"normalization": "relative"}),
    "n-2": Piece("64 prompts, 2 responses each", SIZE, {"n": 2, "prompts_per_step": 64}),
    "n-8": Piece(
        "16 prompts, 8 responses each", SIZE, {"n": 8, "prompts_per_step": 16, "per_device_train_batch_size": 16}
    ),
    "n-8-on-policy": Piece(
        "16 prompts, 8 responses each in two steps of 4, the second from the updated student",
        SIZE,
        {"n": 8, "prompts_per_step": 16, "per_device_train_batch_size": 16, "parts": 2, "decompose": "on-policy"},
        against="n-8",
    ),
    "n-8-on-policy-long": Piece(
        "the same in 160 steps, for as many responses as 8 at once",
        SIZE,
        {
            "n": 8,
            "prompts_per_step": 16,
            "per_device_train_batch_size": 16,
            "parts": 2,
            "decompose": "on-policy",
            "max_steps": 160,
        },
        against="n-8",
    ),
    "temperature-0.5": Piece("temperature 0.5", TEMPERATURE, {"temperature": 0.5}),
    "temperature-1.2": Piece("temperature 1.2", TEMPERATURE, {"temperature": 1.2}),
    "one-order": Piece("one order of the options", QUESTION, {"orders": "single"}),
    "adaptive-orders": Piece("adaptive orders", QUESTION, {"orders": "adaptive"}),
    "pairwise": Piece("questions about pairs", QUESTION, {"form": "pairwise"}),
    "anchor-0.3": Piece("ppd and 0.3 of the best's negative log-likelihood", ANCHOR, {"anchor": 0.3}),
    "best-alone": Piece(
        "the best's negative log-likelihood a hundred times the loss: all but SFT on the teacher's best",
        ANCHOR,
        {"anchor": 100.0},
    ),
    "second-sets": Piece("a second set above an entropy of 0.7", ADAPTIVE, {"second_set_above": 0.7}),
    "long": Piece("160 steps instead of 80", ADAPTIVE, {"max_steps": 160}),
    "long-skip-settled": Piece(
        "160 steps, prompts that taught little left out with at most 0.9",
        ADAPTIVE,
        {"max_steps": 160, "skip_settled": 0.9},
        against="long",
    ),
}
