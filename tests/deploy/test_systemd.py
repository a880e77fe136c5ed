"""The unit for systemd, and the six commands that install it."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pad_teacher.cli import main
from support.tools import DEPLOY, ROOT, serve_settings

UNIT = DEPLOY / "systemd" / "pad-teacher.service"
GUIDE = (ROOT / "docs" / "guides" / "quickstart-lab.md").read_text()


def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser["Service"]


def test_the_unit_gives_flags_that_there_are_and_time_to_drain() -> None:
    program, *arguments = service()["ExecStart"].split()
    assert program == "/opt/pad/bin/pad-teacher"
    settings = serve_settings([*arguments, "--model", "/srv/models/m"])
    state = {f"/var/lib/{name}" for name in service()["StateDirectory"].split()}
    assert settings.keys is not None
    assert {str(settings.keys.parent), str(settings.data)} <= state
    assert int(service()["TimeoutStopSec"]) > settings.drain_seconds
    assert int(service()["LimitNOFILE"]) > settings.max_connections


@pytest.mark.parametrize("arguments", [[], ["m", "--prot", "1"], ["m", "--port", "99999"]])
def test_a_wrong_setting_is_not_tried_again(arguments: list[str]) -> None:
    assert str(main(["serve", *arguments])) == service()["RestartPreventExitStatus"]


def test_the_guides_keys_are_read_by_their_maker_alone(tmp_path: Path) -> None:
    (keys,) = re.findall(r"^# 5\.[^\n]*\n(.*?)\n\n", GUIDE, re.MULTILINE | re.DOTALL)
    keys = keys.replace("sudo -u pad-teacher ", "").replace("/var/lib/pad-teacher", str(tmp_path))
    keys = keys.replace("/opt/pad/bin/pad-teacher", f"{sys.executable} -m pad_teacher")
    assert "sudo" not in keys
    subprocess.run(["bash", "-euc", f"umask 022; {keys}"], cwd=tmp_path, check=True)
    written = sorted(tmp_path.glob("*.key"))
    assert [path.stem for path in written] == ["ada", "ben", "cleo", "dev", "eva"]
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    assert all(path.read_text().startswith("pad_") for path in written)
    assert len((tmp_path / "keys" / "teacher.keys").read_text().splitlines()) == 5


def test_the_guide_has_six_commands_and_settings_that_there_are() -> None:
    assert re.findall(r"^# (\d)\.", GUIDE, re.MULTILINE) == ["1", "2", "3", "4", "5", "6"]
    given = dict(re.findall(r"^PAD_TEACHER_(\w+)=(.*)$", GUIDE, re.MULTILINE))
    flags = [part for name, value in given.items() for part in (f"--{name.lower().replace('_', '-')}", value)]
    assert serve_settings(["serve", *flags]).host == "0.0.0.0"


def test_the_guide_and_the_unit_name_the_same_places() -> None:
    settings = serve_settings([*service()["ExecStart"].split()[1:], "--model", "m"])
    assert f"--keys {settings.keys} " in GUIDE
    assert f"--usage {settings.data}`" in GUIDE
    assert service()["EnvironmentFile"] in GUIDE
    assert service()["ExecStart"].split()[0] in GUIDE
