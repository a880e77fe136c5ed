"""Write docs/reference/ from the code: the HTTP API, the settings of both commands, the Python API.

    python docs/make_reference.py

A test compares the pages with the code, so run this after a change of either.
"""

import ast
import inspect
import json
import re
from argparse import Action, ArgumentParser
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from textwrap import dedent, wrap
from typing import Any

from pydantic import BaseModel

import pad_student
from pad_settings.completion import actions_of
from pad_settings.fields import groups
from pad_student.commands import programs
from pad_teacher import cli
from pad_teacher.api.pages.schema_words import default_of, kind_of
from pad_teacher.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[1]
MADE = "<!-- Made by docs/make_reference.py: do not edit. -->"
_PIECES = {"text": str, "code": "`{}`".format, "model": lambda name: f"[{name}](#{name.lower()})"}
HIDDEN = ("trainer",)
HEAD = ("name", "type", "default", "meaning")


def pages() -> dict[str, str]:
    """Each page's text by its name."""
    return {"http.md": http_page(), "settings.md": settings_page(), "python.md": python_page()}


def http_page() -> str:
    """Routes and their models, from the OpenAPI description that a contract test compares with the service."""
    api = json.loads((ROOT / "tests" / "contract" / "openapi.json").read_text())
    lines = ["# HTTP API", MADE, api["info"]["description"]]
    lines += ["Headers: `Authorization: Bearer KEY`, `X-Job-Id`, `X-Deadline-Ms`, `X-Request-Id`.", "## Routes"]
    rows = []
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            asked = _body(route["requestBody"]) if "requestBody" in route else ""
            refusals = ", ".join(code for code in route["responses"] if code != "200")
            rows.append(
                (f"`{method.upper()} {path}`", route["summary"], asked, _body(route["responses"]["200"]), refusals)
            )
    lines.append(_table(("route", "does", "request", "reply", "other statuses"), rows))
    lines.append("## Models")
    for name, model in api["components"]["schemas"].items():
        lines += [f"### {name}", _paragraph(model.get("description", "")), _fields(model, "`{}`".format)]
    return _joined(lines)


def settings_page() -> str:
    """One table a command, from the settings classes."""
    lines = ["# Settings", MADE, "Flags override variables, these override YAML, and that overrides the defaults."]
    lines += ["`pad-teacher` reads the variables `PAD_TEACHER_…`, `pad-student` reads `PAD_STUDENT_…`."]
    for name, parser in cli.parsers().items():
        lines.append(f"## pad-teacher {name}")
        lines += _settings(ServeSettings) if name == "serve" else _arguments(parser)
    for name, command in programs.COMMANDS.items():
        lines += [f"## pad-student {name}", *_settings(command.settings)]
    return _joined(lines)


def python_page() -> str:
    """The public names of ``pad_student`` with their signatures and docstrings."""
    lines = ["# Python API", MADE, "`import pad_student` is cheap: each name is imported when it is first used."]
    for name in pad_student.__all__:
        found = getattr(pad_student, name)
        lines.append(f"## {name}")
        if not callable(found):
            lines.append("A dictionary: " + ", ".join(f"`{each}`" for each in found) + ".")
            continue
        lines.append(_documented(name, found))
        if isinstance(found, type) and found.__module__.startswith("pad_student.teacher.client"):
            methods = [
                each for each in vars(found) if not each.startswith("_") and inspect.isfunction(vars(found)[each])
            ]
            lines += [f"### {name}.{each}\n\n" + _documented(each, vars(found)[each]) for each in methods]
    return _joined(lines)


def _settings(model: type[BaseModel]) -> list[str]:
    schema = model.model_json_schema()
    lines = [_paragraph(schema["description"])]
    for group in groups(model):
        own = {name: schema["properties"][name] for name in group.fields}
        lines += [f"{group.title}:", _fields({**schema, "properties": own}, _flag)]
    return lines


def _arguments(parser: ArgumentParser) -> list[str]:
    return [_paragraph(parser.description or ""), _table(HEAD, map(_argument, actions_of(parser)))]


def _argument(action: Action) -> tuple[str, str, str, str]:
    kinds: dict[Any, str] = {Path: "path", int: "integer", float: "number", None: "string"}
    kind = ", ".join(f"`{each}`" for each in action.choices or ()) or kinds[action.type]
    said: Any = re.fullmatch(r"(.*?)(?: \(default: (.*)\))?", _plain(action.help or ""))
    name = f"`{', '.join(action.option_strings) or action.dest.upper()}`"
    default = "required" if action.required else said[2] or ""
    return name, "boolean" if action.nargs == 0 else kind, default, said[1]


def _documented(name: str, found: Any) -> str:
    text = f"```text\n{inspect.getdoc(found)}\n```"
    if isinstance(found, type) and issubclass(found, BaseModel):
        return text + "\n\n" + re.sub(r"\[(\w+)\]\(#\w+\)", r"\1", _fields(found.model_json_schema(), "`{}`".format))
    makes = found.__dict__.get("__init__") if isinstance(found, type) else found
    if makes is None or is_dataclass(found):
        return text
    written: Any = ast.parse(dedent(inspect.getsource(makes))).body[0]
    arguments = re.sub(r"^self(, )?", "", ast.unparse(written.args))
    reply = "" if isinstance(found, type) or written.returns is None else f" -> {ast.unparse(written.returns)}"
    signature = "\n".join(wrap(f"{name}({arguments}){reply}", 100, subsequent_indent="    "))
    return f"```python\n{signature}\n```\n\n{text}"


def _fields(model: dict[str, Any], shown: Any) -> str:
    required, properties = model.get("required", ()), model.get("properties", {})
    rows = [
        (
            shown(name),
            _kind(field),
            "required" if name in required else _default(field),
            _plain(field.get("description", "")),
        )
        for name, field in properties.items()
        if name not in HIDDEN
    ]
    said = any(row[3] for row in rows)
    return _table(HEAD[: 4 if said else 3], [row[: 4 if said else 3] for row in rows])


def _kind(field: dict[str, Any]) -> str:
    return "".join(_PIECES[what](value) for what, value in kind_of(field))


def _default(field: dict[str, Any]) -> str:
    value = default_of(field)
    return f"`{value}`" if value else ""


def _flag(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"


def _body(holder: dict[str, Any]) -> str:
    return _kind(holder["content"]["application/json"]["schema"])


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _paragraph(text: str) -> str:
    return "\n".join(wrap(_plain(text), 116))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    for page, text in pages().items():
        (ROOT / "docs" / "reference" / page).write_text(text)
