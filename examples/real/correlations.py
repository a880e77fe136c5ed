"""How a likelihood reward goes with length and with the rules that responses keep, within prompts.

    pad-student sample --model STUDENT --prompts examples/real/prompts.jsonl -n 6 --max-new-tokens 48 --out sets.jsonl
    pad-student score --teacher URL --sets sets.jsonl --out scored.jsonl --alpha 0 --unconditional
    python examples/real/correlations.py scored.jsonl --out result.json

For each share of the likelihood after an empty request that is taken off, it writes two correlations over responses,
each value less its prompt's mean, with 95 % bootstrap intervals over prompts. Of sets that were scored with a choice
(``--alpha 0.5`` instead of 0) it does so for the calibrated reward of each alpha too.
"""

import argparse
import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rules import grade

SHARES = (0.0, 0.3, 0.6, 0.8, 1.0)
ALPHAS = (0.0, 0.2, 0.5, 0.8, 1.0)
RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scored", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sets = [json.loads(line) for line in options.scored.read_text().splitlines()]
    length = [less_mean([len(each["text"]) for each in of["responses"]]) for of in sets]
    kept = [less_mean([grade(of["prompt"], each["text"]) for each in of["responses"]]) for of in sets]
    chosen = all(each.get("selection_probability") is not None for of in sets for each in of["responses"])
    rows: list[dict[str, Any]] = []
    for share, alpha in product(SHARES, ALPHAS if chosen else (0.0,)):
        reward = [less_mean([calibrated(each, share, alpha) for each in of["responses"]]) for of in sets]
        row: dict[str, Any] = {"share": share, "alpha": alpha} if chosen else {"share": share}
        rows.append(row | {"length": correlation(reward, length), "rules_kept": correlation(reward, kept)})
        print(rows[-1])
    result = {"prompts": len(sets), "samples_a_prompt": len(sets[0]["responses"]), "correlations": rows}
    options.out.write_text(json.dumps(result, indent=2) + "\n")


def calibrated(response: dict[str, Any], share: float, alpha: float) -> float:
    """(1 - alpha) of the relative likelihood and alpha of the choice's logarithm, nats."""
    if not alpha:
        return relative(response, share)
    return (1 - alpha) * relative(response, share) + alpha * math.log(response["selection_probability"])


def relative(response: dict[str, Any], share: float) -> float:
    """Mean log-likelihood less ``share`` of the mean after an empty request, nats a token."""
    return (response["log_likelihood"] - share * response["unconditional_log_likelihood"]) / response["tokens"]


def less_mean(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float64) - np.mean(values)


def correlation(first: list[np.ndarray], second: list[np.ndarray]) -> dict[str, float]:
    """Pearson's, with the interval of drawing whole prompts again."""
    products = np.array([[x @ y, x @ x, y @ y] for x, y in zip(first, second, strict=True)])
    drawn = np.random.default_rng(0).integers(len(products), size=(RESAMPLES, len(products)))
    sums = products[drawn].sum(1)
    low, high = np.quantile(sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2]), [0.025, 0.975])
    xy, xx, yy = products.sum(0)
    named = {"correlation": xy / np.sqrt(xx * yy), "low": low, "high": high}
    return {name: round(float(value), 3) for name, value in named.items()}


if __name__ == "__main__":
    main()
