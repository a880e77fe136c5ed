"""An audit as a person reads it: one table, a few sentences, the recommended settings."""

from collections.abc import Sequence
from textwrap import fill

from pad_student.evaluation.audit.audit import Audit

WIDTH = 80
KINDS_SHOWN = ("wrong", "off-topic", "scrambled", "cut", "padded", "flattering")


def report(audits: Sequence[Audit]) -> str:
    """All teachers one after the other, each as a table, sentences and settings; 80 columns."""
    return "\n\n".join(_one(audit) for audit in audits)


def settings_yaml(audit: Audit) -> str:
    """The recommended settings as YAML that ``distill`` takes."""
    lines = [f"# from an audit of {audit.teacher['model']} ({audit.teacher['fingerprint']})"]
    return "\n".join(lines + [f"{name}: {value}" for name, value in audit.recommendation.settings.items()]) + "\n"


def _one(audit: Audit) -> str:
    parts = [
        f"{audit.teacher['model']} ({audit.teacher['fingerprint']})",
        _table(audit),
        _by_kind(audit),
        "\n".join(fill(sentence, WIDTH, subsequent_indent="  ") for sentence in _sentences(audit)),
        settings_yaml(audit).rstrip(),
    ]
    return "\n\n".join(parts)


def _table(audit: Audit) -> str:
    rows = [f"{'signal':34}  {'better wins (95 %)':>18}  first  sets  tokens/set"]
    for each in audit.judged:
        rate = each.win_rate
        rows.append(
            f"{each.signal.name:34}  {rate.mean:6.2f} ({rate.low:.2f}-{rate.high:.2f})  {rate.first:5.2f}"
            f"  {rate.sets:4}  {each.signal.tokens_per_set:10.0f}"
        )
    return "\n".join([*rows, f"{'chance':34}  {0.5:6.2f}"])


def _by_kind(audit: Audit) -> str:
    """How often the right response wins against each kind of other one."""
    shown = [each for each in audit.judged if each.signal.settings["alpha"] in (0.0, 1.0)]
    kinds = [kind for kind in KINDS_SHOWN if any(kind in each.win_rate.by_kind for each in shown)]
    if not kinds:
        return "right against each other response: see audit.json"
    rows = [f"{'right against':22}" + "".join(f"  {kind:>5}" for kind in kinds)]
    for each in shown:
        values = [each.win_rate.by_kind.get(kind) for kind in kinds]
        texts = ["-" if value is None else f"{value:.2f}" for value in values]
        cells = "".join(f"  {text:>{max(5, len(kind))}}" for kind, text in zip(kinds, texts, strict=True))
        rows.append(f"{each.signal.name:22}" + cells)
    return "\n".join(rows)


def _sentences(audit: Audit) -> list[str]:
    choice = audit.choice
    letters = " ".join(f"{value:.2f}" for value in choice["mean_probability_by_letter"])
    found = [
        f"Mean probability of each letter: {letters}. Without position bias all are equal.",
        f"All orders pick the same response in {choice['same_pick_in_all_orders']:.0%} of sets;"
        f" two orders differ by up to {choice['order_disagreement']:.2f} (total variation, mean over sets).",
        f"Label mass: {choice['label_mass']:.3f}. A high one does not show that choice means anything.",
        f"Likelihood and choice order {audit.signals_agree:.0%} of pairs alike.",
    ]
    for name, of in (("Likelihood", audit.likelihood), ("Choice", choice)):
        if (value := of["correlation_with_length"]) is not None:
            found.append(f"{name} and length in tokens: correlation {value:+.2f} within sets.")
    return found + [f"{why[0].upper()}{why[1:]}." for why in audit.recommendation.why]
