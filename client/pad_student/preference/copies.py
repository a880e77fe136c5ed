"""Copies: responses of a set that are the same text. A set of one text has no preference to learn."""

from collections.abc import Collection, Sequence

from pad_wire import Response


def number_of_texts(responses: Sequence[Response]) -> int:
    """Different texts of a set; a text that was cut differs from the same text with an end."""
    return len({(response.text, response.finished) for response in responses})


def copy_metrics(sets: Collection[Sequence[Response]]) -> dict[str, float]:
    """Shares of all that was sampled, whether it is scored or not.

    Returns:
        ``share/copies``, of responses: those that repeat another of their set; ``share/one_text``, of sets whose
        responses are all the same text. Empty if there are no sets.
    """
    if not sets:
        return {}
    texts = [number_of_texts(each) for each in sets]
    responses = sum(map(len, sets))
    return {
        "share/copies": (responses - sum(texts)) / responses,
        "share/one_text": sum(count == 1 for count in texts) / len(texts),
    }
