"""The table of ``pad-teacher key list``: all keys, their limits and what each has used. For the operator."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pad_teacher.admission.budgets import DAY_SECONDS, day_of
from pad_teacher.admission.keys import KeyRecord
from pad_teacher.admission.usage_file import read_usage

DAYS = 7  # of the second column of usage, today among them


def used_by_key(folder: Path) -> dict[str, tuple[int, int]]:
    """Teacher tokens of each key today, and in the last ``DAYS`` UTC days, as the service keeps them in ``folder``.

    Raises:
        UsageFileError: if there is no usage file, or it cannot be read.
    """
    now = time.time()
    today, first = day_of(now), day_of(now - (DAYS - 1) * DAY_SECONDS)
    used: dict[str, tuple[int, int]] = {}
    for (key, day), tokens in read_usage(folder).items():
        of_today, of_week = used.get(key, (0, 0))
        used[key] = of_today + tokens * (day == today), of_week + tokens * (day >= first)
    return used


def key_table(keys: Sequence[KeyRecord], used: Mapping[str, tuple[int, int]] | None = None) -> list[str]:
    """The lines of the table. A key that was revoked is listed if it has used anything."""
    head = f"{'name':24} {'weight':>7} {'tokens a minute':>16} {'tokens a day':>14} {'metrics':>8}"
    lines = [head if used is None else f"{head} {'today':>12} {f'{DAYS} days':>12}"]
    for key in keys:
        limits = f"{key.tokens_per_minute or '-':>16} {key.tokens_per_day or '-':>14}"
        line = f"{key.name:24} {key.weight:7g} {limits} {'yes' if key.metrics else '-':>8}"
        lines.append(line + _tokens(key.name, used))
    for name in sorted((used or {}).keys() - {key.name for key in keys}):
        line = f"{name or '(without a key)':24} {'revoked' if name else '-':>7} {'-':>16} {'-':>14} {'-':>8}"
        lines.append(line + _tokens(name, used))
    return lines


def _tokens(name: str, used: Mapping[str, tuple[int, int]] | None) -> str:
    if used is None:
        return ""
    today, week = used.get(name, (0, 0))
    return f" {today:12,} {week:12,}"
