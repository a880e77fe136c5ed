"""One line about a package that is missing, mostly because only the other side was installed."""


def missing_package(error: ModuleNotFoundError, extra: str) -> str | None:
    """What is missing and the command that installs it; None if a module of our own is, which is a fault."""
    package = (error.name or "").partition(".")[0]
    if not package or package.startswith("pad_"):
        return None
    return f"the package {package} is not installed: pip install 'pad-service[{extra}]'"
