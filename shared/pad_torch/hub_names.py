"""Names on the Hugging Face Hub: whether they can be reached at all, asked once and within seconds. No torch."""

import os
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from typing import Any, Literal

SECONDS = 8.0  # also for a resolver of names that never answers


def why_unreachable(
    name: str, kind: Literal["model", "dataset"] = "model", revision: str | None = None
) -> str | None:
    """The reason that a name on the Hub cannot be loaded, and None if it can.

    A model that is in the cache can. If the Hub does not answer, the cache alone is used from then on: the libraries
    would ask it again for each file, and wait each time.

    Returns:
        One line with the name and the remedy.
    """
    import huggingface_hub as hub

    try:
        found = kind == "model" and hub.try_to_load_from_cache(name, "config.json", revision=revision)
    except hub.errors.HFValidationError:
        return f"{name} is no directory here, and no id on the Hub can be spelled so; check the name, or give a path"
    cached = isinstance(found, str)
    if cached and hub.constants.HF_HUB_OFFLINE:
        return None
    problem = _problem(name, kind, revision)
    if problem is None:
        return None
    if cached:
        _stay_offline(hub)
        return None
    return f"{name} is no {'directory' if kind == 'model' else 'file or directory'} here, and {problem}"


def _problem(name: str, kind: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def ask() -> None:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=SECONDS - 1)

    pool = ThreadPoolExecutor(1, "hub")
    try:
        pool.submit(ask).result(SECONDS)
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE forbids to ask the Hub; unset it, or give a path"
    except GatedRepoError:
        return f"the Hub gives {name} only to those who asked for access; ask for it there, and run hf auth login"
    except (RepositoryNotFoundError, HFValidationError):
        return f"the Hub has no such public {kind}; check the name, give a path, or run hf auth login"
    except RevisionNotFoundError:
        return f"the Hub has no revision {revision} of it"
    except TooLate:
        return f"the Hub did not answer within {SECONDS:.0f} s; check the network, or give a path"
    except Exception as error:  # noqa: BLE001 -- of the network, with a class of its own for each library
        return f"the Hub cannot be reached ({type(error).__name__}); check the network, or give a path"
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return None


def _stay_offline(hub: Any) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    hub.constants.HF_HUB_OFFLINE = True


# pyright: standard
