"""The tables of docs/evidence.md, from the files of both grids: ``python -m benchmarks.evidence.page``."""

import json
import re
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.evidence.method_pieces import METHODS, PAD, Method
from benchmarks.evidence.pieces import DEFAULT, PIECES, Piece
from benchmarks.harness.environment import RESULTS, ROOT
from pad_student.evaluation.comparison import Gain, gain

PAGE = ROOT / "docs" / "evidence.md"
BEGIN, END = "<!-- The grid: written by python -m benchmarks.evidence.page -->", "<!-- The end of the grid -->"


METHODS_BEGIN = "<!-- The methods: written by python -m benchmarks.evidence.page -->"
METHODS_END = "<!-- The end of the methods -->"
DATA = {
    "pairs": "The world's graded pairs and the aligned teacher",
    "sets": "The demo's prompts and the demo's teacher",
}
CONTRASTS = {
    "pairs": (
        ("adpa", "dpo-pairs"),
        ("adpa", "dpo-pairs-sharp"),
        ("adpa-plus", "dpo-pairs"),
        ("adpa-plus", "dpo-pairs-sharp"),
        ("adpa-plus", "dckd"),
        ("adpa-plus", "adpa"),
        ("adpa-without-nll", "adpa"),
    ),
    "sets": (),
}
COUNTED = {"pairs": "first", "sets": "second"}
METHOD_SEEDS = (0, 1, 2)
Runs = dict[int, dict[str, Any]]  # by seed


def main() -> None:
    text = replaced(PAGE.read_text(), BEGIN, END, tables())
    PAGE.write_text(replaced(text, METHODS_BEGIN, METHODS_END, method_tables()))


def replaced(page: str, begin: str, end: str, between: str) -> str:
    """A page with another text between two marks."""
    before, _, rest = page.partition(begin)
    return before + begin + "\n\n" + between + "\n" + end + rest.partition(end)[2]


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
    tokens = sum(runs[seed]["teacher_tokens"] for seed in seeds or runs) / len(seeds or runs)
    if not seeds:
        mean = sum(run["mean"] for run in runs.values()) / len(runs)
        return f"| {piece.says} | {len(runs)} | {mean:.3f} | not compared yet | | {tokens:,.0f} |"
    compared = difference(*([each[seed]["grades"] for seed in seeds] for each in (others, runs)))
    what = " from the untouched student" if own else "" if piece.against == "default" else f" from {piece.against}"
    interval = f"{compared.gain:+.3f}{what} ({compared.low:+.3f} to {compared.high:+.3f})"
    return (
        f"| {piece.says} | {len(seeds)} | {compared.b:.3f} | {interval} | {compared.smallest:.3f} | {tokens:,.0f} |"
    )


def method_tables(folder: Path = RESULTS / "evidence") -> str:
    """A table of methods for each kind of data, and the rows and seeds that were not run."""
    found = results(folder / "methods") | {PAD: results(folder).get(DEFAULT, {})}
    parts = [method_section(data, found) for data in DATA]
    missing = [
        f"{method.says}, {COUNTED[method.data]} table: {', '.join(map(str, lacking))}"
        for name, method in METHODS.items()
        if (lacking := [seed for seed in METHOD_SEEDS if seed not in found.get(name, {})])
    ]
    return "\n".join([*parts, *([fill(f"Seeds not run yet. {'; '.join(missing)}.", 118)] if missing else [])])


def method_section(data: str, found: dict[str, Runs]) -> str:
    """The table of the methods with one kind of data."""
    lines = [
        f"### {DATA[data]}",
        "",
        "| setting | seeds | learning rate | grade after | difference from PAD (95 % interval) | teacher tokens |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        method_row(method, found[name], found[method.against])
        for name, method in METHODS.items()
        if method.data == data and found.get(name)
    ]
    others = [
        contrast(one, other, found)
        for one, other in CONTRASTS[data]
        if found.get(one, {}).keys() & found.get(other, {}).keys()
    ]
    others += [
        lost_entropy(name, found[name]) for name, method in METHODS.items() if method.data == data and name in found
    ]
    return "\n".join(
        [
            *lines,
            "",
            *([fill(" ".join(filter(None, others)), 118, break_on_hyphens=False), ""] if any(others) else []),
        ]
    )


def lost_entropy(name: str, runs: Runs) -> str:
    """One sentence: the first and last entropy of a method's student, in the first seed that tells."""
    told = {seed: run["token_entropy"] for seed, run in sorted(runs.items()) if "token_entropy" in run}
    if not told:
        return ""
    seed, nats = next(iter(told.items()))
    what = f"{METHODS[name].says}, seed {seed}: the entropy of the student's next token went"
    return f"{what} from {nats['first']:.2f} to {nats['last']:.2f} nats."


def contrast(name: str, other: str, found: dict[str, Runs]) -> str:
    """One sentence: how much better a method is than another one that is not PAD."""
    seeds = sorted(found[name].keys() & found[other].keys())
    compared = difference(*([found[each][seed]["grades"] for seed in seeds] for each in (other, name)))
    pair = " from ".join(METHODS[each].says.partition(" (")[0].partition(":")[0] for each in (name, other))
    return f"{pair}: {compared.gain:+.3f} ({compared.low:+.3f} to {compared.high:+.3f})."


def method_row(method: Method, runs: Runs, pad: Runs) -> str:
    """One method next to PAD on the same prompts, over the seeds that both have."""
    seeds = sorted(runs.keys() & pad.keys()) or sorted(runs)
    chosen = [runs[seed] for seed in seeds]
    tokens, mean = (sum(run[key] for run in chosen) / len(chosen) for key in ("teacher_tokens", "mean"))
    rate = f"{chosen[0].get('learning_rate', method.rates[0]):g}, {chosen_from(method)}"
    if runs is pad:
        interval = "PAD itself"
    elif seeds[0] not in pad:
        interval = "not compared yet"
    else:
        compared = difference(*([each[seed]["grades"] for seed in seeds] for each in (pad, runs)))
        interval = f"{compared.gain:+.3f} ({compared.low:+.3f} to {compared.high:+.3f})"
    named = ", ".join(map(str, seeds))
    return f"| {method.says} | {named} | {rate} | {mean:.3f} | {interval} | {tokens:,.0f} |"


def chosen_from(method: Method) -> str:
    """How a learning rate was chosen."""
    return f"best of {len(method.rates)}" if len(method.rates) > 1 else "not tuned"


def difference(before: list[dict[str, float]], after: list[dict[str, float]]) -> Gain:
    """The paired gain over prompts and seeds."""
    first, second = ([{key: [value] for key, value in each.items()} for each in runs] for runs in (before, after))
    return gain(first, second)


if __name__ == "__main__":
    main()
