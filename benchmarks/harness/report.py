"""Rows and a table from runs: medians, shares of the floor, and the disagreement with float64."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.harness.floor import Floor

Runs = dict[tuple[str, str], list[dict[str, Any]]]  # by contender and part


def rows_of(runs: Runs, floor: Floor | None) -> list[dict[str, Any]]:
    """One row for each contender and part, and one for each likelihood plus a selection that was timed separately.

    Without a floor, which a model of unknown shape does not have, rows lack shares and tokens a second.
    """
    rows = [_row(contender, part, found, floor) for (contender, part), found in runs.items()]
    for (contender, part), found in runs.items():
        likelihood = runs.get((contender, "likelihood"))
        if part in ("pairwise", "single", "cyclic") and likelihood:
            seconds = [a["seconds"] + b["seconds"] for a, b in zip(likelihood, found, strict=False)]
            rows.append(_timed(contender, f"likelihood, then {part}", seconds) | {"facts": {"sum_of_two_rows": True}})
    likelihoods = {row["contender"]: row["all_seconds"] for row in rows if row["part"] == "likelihood"}
    ours = likelihoods.get("ours")
    for row in rows:
        if ours and row["part"] == "likelihood":
            # Round by round, because the runs of one round are minutes apart and see the same machine.
            row["times_ours"] = median(a / b for a, b in zip(row["all_seconds"], ours, strict=False))
    return rows


def disagreement(out: Path, reference: Path) -> dict[str, Any] | None:
    """Largest difference from float64, in nats.

    It is a token's, or a response's mean if the contender gives only means. None if a file is missing.
    """
    if not out.exists() or not reference.exists():
        return None
    with np.load(out) as found, np.load(reference) as exact:
        per_token = all(len(found[name]) == len(exact[name]) for name in exact)
        differences = [
            abs(found[name] - (exact[name] if per_token else exact[name].mean(keepdims=True))) for name in exact
        ]
        sets = len({name.split(".")[0] for name in exact})
    worst = float(np.concatenate(differences).max())
    return {"largest_nats": worst, "of": "token" if per_token else "mean of a response", "sets": sets}


def table(rows: Sequence[dict[str, Any]], failed: dict[str, str]) -> str:
    """The rows as text, with one line for each contender that failed."""
    heads = (
        "contender",
        "what",
        "seconds",
        "times ours",
        "tokens/s",
        "of floor",
        "of fastest",
        "GFLOP/s",
        "peak MiB",
        "largest error",
    )
    lines = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, *(f"{contender}: {why}" for contender, why in failed.items())])


def _row(contender: str, part: str, found: Sequence[dict[str, Any]], floor: Floor | None) -> dict[str, Any]:
    row = _timed(contender, part, [run["seconds"] for run in found])
    rates = [run["gemm_flop_per_second"] for run in found]
    fastest = [run["fastest_gemm_flop_per_second"] for run in found]
    row |= {"gemm_flop_per_second": rates, "fastest_gemm_flop_per_second": fastest}
    row["cores_busy_elsewhere"] = [run["cores_busy_elsewhere"] for run in found]
    row |= {key: found[-1].get(key) for key in ("memory", "disagreement")}
    for key in ("peak_memory_bytes", "held_before_bytes"):
        row[key] = max((run[key] for run in found if run.get(key)), default=None)
    facts = [run["facts"] for run in found]
    row["facts"] = {key: median(one[key] for one in facts) for key in facts[0]}
    if part == "likelihood" and floor:
        row["tokens_per_second"] = floor.tokens / row["seconds"]
        # The share with attention also counts attention's products: it compares workloads of different lengths.
        for key, flop, peaks in (
            ("share_of_floor", floor.flop, rates),
            ("share_with_attention", floor.flop + floor.attention, rates),
            ("share_of_fastest_floor", floor.flop, fastest),
        ):
            row[key] = median(flop / peak / run["seconds"] for peak, run in zip(peaks, found, strict=True))
    return row


def _timed(contender: str, part: str, seconds: list[float]) -> dict[str, Any]:
    return {"contender": contender, "part": part, "seconds": median(seconds), "all_seconds": seconds}


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def shown(key: str, form: str, scale: float = 1) -> str:
        value = row.get(key)
        return "" if value is None else format(value * scale, form)

    off, rates = row.get("disagreement"), row.get("gemm_flop_per_second")
    seconds = f"{row['seconds']:.2f}"
    if "around_it_seconds" in row["facts"]:  # one set on the idle service: engine time plus the rest
        facts = row["facts"]
        seconds = f"{facts['request_seconds']:.3f} = {facts['engine_seconds']:.3f} + {facts['around_it_seconds']:.4f}"
    return (
        row["contender"],
        row["part"],
        seconds,
        shown("times_ours", ".2f"),
        shown("tokens_per_second", ".0f"),
        shown("share_of_floor", ".1%"),
        shown("share_of_fastest_floor", ".1%"),
        "" if rates is None else f"{median(rates) / 1e9:.0f}",
        shown("peak_memory_bytes", ".0f", 2**-20),
        "" if off is None else f"{off['largest_nats']:.1e}" + ("" if off["of"] == "token" else " (mean)"),
    )
