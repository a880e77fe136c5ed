"""The lines with which ``pad-teacher serve`` opens on a terminal."""

from importlib.metadata import version

from pad_teacher.settings import ServeSettings


def banner(settings: ServeSettings, url: str) -> str:
    """Where the pages are, which model is served, how to make a key, and the limits."""
    if settings.keys:
        keys = f"pad-teacher key add NAME --keys {settings.keys}"
    else:
        keys = "none needed" + ("" if settings.allow_anonymous else " on this machine; others need --keys FILE")
    rows = {
        "page": f"{url}/",
        "API": f"{url}/docs",
        "model": f"{settings.model}, {_by(settings)}",
        "keys": keys,
        "limits": f"{settings.max_batch_tokens:,} tokens a batch, {settings.max_queued_tokens:,} waiting,"
        f" {settings.max_connections:,} connections",
        "stop": "Ctrl-C; requests under way are answered, a second one stops at once",
    }
    lines = [f"pad-service {version('pad-service')}", *(f"  {name:8}{text}" for name, text in rows.items())]
    return "\n".join(lines)


def _by(settings: ServeSettings) -> str:
    if settings.engine != "openai":
        return f"by {settings.engine}"
    return f"at {settings.upstream}, {settings.upstream_tokens_per_day:,} tokens a day at the most"
