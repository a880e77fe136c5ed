"""The methods and baselines that are compared with PAD: what each learns from, and by whose trainer."""

from dataclasses import dataclass, field
from typing import Any, Literal

Data = Literal["pairs", "sets"]
Algorithm = Literal["sft", "dpo", "simpo"]

PAD, PAD_ALIGNED = "pad", "pad-aligned"
RATES = (3e-4, 1e-3, 3e-3)
CONTRAST_RATES = (3e-5, 1e-4, 3e-4, 1e-3)  # DPO and SimPO fall apart at a rate that SFT likes best
DEMO_RATE = 1e-3
STEPS, BATCH, WARMUP = 80, 32, 5  # of the demo's settings


@dataclass(frozen=True)
class Method:
    """One row of the page. All rows begin with one student, and make 80 updates of 32 prompts.

    Attributes:
        says: the row's words.
        data: the world's graded pairs with the aligned teacher, or the demo's prompts with the demo's teacher.
        stages: settings over the demo's, for each run of ``distill``; a later one begins with the earlier one's
            student.
        algorithm: of TRL, in place of stages.
        arguments: of TRL's trainer.
        rates: learning rates; of several, seed 0 chooses for all seeds.
        teacher: the directory of the tiny world with the teacher of the stages.
    """

    says: str
    data: Data
    stages: tuple[dict[str, Any], ...] = ()
    algorithm: Algorithm | None = None
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    rates: tuple[float, ...] = (DEMO_RATE,)
    teacher: str = "aligned"

    @property
    def against(self) -> str:
        """The row of PAD on the same prompts."""
        return PAD_ALIGNED if self.data == "pairs" else PAD

    @property
    def settings(self) -> dict[str, Any]:
        """What a result says of how its student was trained."""
        if self.algorithm:
            return {"algorithm": self.algorithm, "data": self.data} | self.arguments
        return {"data": self.data, "teacher": self.teacher, "stages": list(self.stages)}


ADPA: dict[str, Any] = {"method": "adpa", "n": 2}
WITHOUT_NLL = ADPA | {"nll_weight": 0.0}
DPO: dict[str, Any] = {"beta": 0.1}
SHARP_DPO: dict[str, Any] = {"beta": 0.5}  # of the demo's aligned teacher
SIMPO: dict[str, Any] = {"beta": 2.0, "simpo_gamma": 1.0}

# In the order in which a seed's rows are run.
METHODS: dict[str, Method] = {
    PAD: Method("PAD, the demo's settings", "sets", teacher="teacher"),
    PAD_ALIGNED: Method("PAD by likelihood alone (alpha 0)", "pairs", stages=({"alpha": 0.0},), rates=RATES),
    "sft-pairs": Method("SFT on the chosen answers (TRL)", "pairs", algorithm="sft", rates=RATES),
    "dpo-pairs": Method("DPO, beta 0.1 (TRL)", "pairs", algorithm="dpo", arguments=DPO, rates=CONTRAST_RATES),
    "dpo-pairs-sharp": Method(
        "DPO, beta 0.5 (TRL)", "pairs", algorithm="dpo", arguments=SHARP_DPO, rates=CONTRAST_RATES
    ),
    "dckd": Method("DCKD", "pairs", stages=({"method": "dckd"},), rates=RATES),
    "adpa": Method("ADPA, n 2", "pairs", stages=(ADPA,), rates=RATES),
    # At the demo's rate, which the rates of ADPA chose too; its entropies tell what the other term is for.
    "adpa-without-nll": Method("ADPA, n 2, without its negative log-likelihood", "pairs", stages=(WITHOUT_NLL,)),
    "adpa-plus": Method(
        "ADPA+: 40 updates by DCKD, then 40 by ADPA",
        "pairs",
        stages=({"method": "dckd", "max_steps": 40}, ADPA | {"max_steps": 40}),
        rates=RATES,
    ),
    "sft-best": Method("SFT on the teacher's best response (TRL)", "sets", algorithm="sft", rates=RATES),
    "dpo-best": Method(
        "DPO on the best and the worst, beta 0.1 (TRL)", "sets", algorithm="dpo", arguments=DPO, rates=CONTRAST_RATES
    ),
    "dpo-best-sharp": Method(
        "DPO on the best and the worst, beta 0.5 (TRL)",
        "sets",
        algorithm="dpo",
        arguments=SHARP_DPO,
        rates=CONTRAST_RATES,
    ),
    "simpo-best": Method(
        "SimPO on the best and the worst, beta 2, gamma 1 (TRL)",
        "sets",
        algorithm="simpo",
        arguments=SIMPO,
        rates=CONTRAST_RATES,
    ),
    "pad-demo-teacher": Method(
        "PAD, the demo's settings and the demo's teacher", "pairs", stages=({},), teacher="teacher"
    ),
}
