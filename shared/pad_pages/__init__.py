"""The chart that the pages of both sides draw: one module and its style, and uPlot, which it draws with."""

from functools import cache
from importlib.resources import files

FILES = ("charts.css", "curves.js", "uPlot.iife.min.js", "uPlot.min.css")
LICENCE = "uPlot.LICENSE"


@cache
def text_of(name: str) -> str:
    """The text of one file of this folder."""
    return (files("pad_pages") / name).read_text("utf-8")
