"""The tables of docs/evidence.md, from the files of the grid: ``python -m benchmarks.evidence.page``."""

import json
import re
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.evidence.pieces import PIECES, Piece
from benchmarks.harness.environment import RESULTS, ROOT
from pad_student.evaluation.comparison import Gain, gain

PAGE = ROOT / "docs" / "evidence.md"
BEGIN, END = "<!-- The grid: written by python -m benchmarks.evidence.page -->", "<!-- The end of the grid -->"


def main() -> None:
    before, _, after = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n\n" + tables() + "\n" + END + after.partition(END)[2])


def tables(folder: Path = RESULTS / "evidence") -> str:
    """A table for each question that has a run, and the pieces that have none."""
    found = results(folder)
    run = {name: piece for name, piece in PIECES.items() if name in found}
    parts = [
        section(claim, dict(pieces), found) for claim, pieces in groupby(run.items(), lambda item: item[1].claim)
    ]
    missing = "; ".join(piece.says for name, piece in PIECES.items() if name not in found)
    return "\n".join([*parts, *([fill(f"Not run yet: {missing}.", 118)] if missing else [])])


def results(folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """The results of each piece by seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        name, seed = re.fullmatch(r"(.+)-seed-(\d+)", path.stem).groups()  # type: ignore[union-attr]
        found.setdefault(name, {})[int(seed)] = json.loads(path.read_text())
    return found


def section(claim: str, pieces: dict[str, Piece], found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """One question's table."""
    lines = [
        f"### {claim}",
        "",
        "| setting | seeds | grade after | difference (95 % interval) | smallest to be seen | teacher tokens |",
        "|---|---|---|---|---|---|",
    ]
    lines += [row(piece, found[name], found) for name, piece in pieces.items()]
    return "\n".join([*lines, ""])


def row(piece: Piece, runs: dict[int, dict[str, Any]], found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """One piece next to the one that it is compared with, over the seeds that both have."""
    own = PIECES[piece.against] is piece
    others = found["untouched"] if own else found.get(piece.against, {})
    seeds = sorted(runs.keys() & others.keys())
    tokens = sum(run["teacher_tokens"] for run in runs.values()) / len(runs)
    if not seeds:
        mean = sum(run["mean"] for run in runs.values()) / len(runs)
        return f"| {piece.says} | {len(runs)} | {mean:.3f} | not compared yet | | {tokens:,.0f} |"
    compared = difference(*([each[seed]["grades"] for seed in seeds] for each in (others, runs)))
    what = " from the untouched student" if own else "" if piece.against == "default" else f" from {piece.against}"
    interval = f"{compared.gain:+.3f}{what} ({compared.low:+.3f} to {compared.high:+.3f})"
    return (
        f"| {piece.says} | {len(seeds)} | {compared.b:.3f} | {interval} | {compared.smallest:.3f} | {tokens:,.0f} |"
    )


def difference(before: list[dict[str, float]], after: list[dict[str, float]]) -> Gain:
    """The paired gain over prompts and seeds."""
    first, second = ([{key: [value] for key, value in each.items()} for each in runs] for runs in (before, after))
    return gain(first, second)


if __name__ == "__main__":
    main()
