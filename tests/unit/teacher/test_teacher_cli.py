"""The ``pad-teacher`` command: settings, mistakes, ``--help``."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pad_teacher.cli import main
from pad_teacher.settings import BadSettings, read_settings


def test_flags_win_over_environment_over_yaml_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "teacher.yaml"
    file.write_text("model: from-yaml\nport: 1\nhost: 127.0.0.2\ndrain_seconds: 7\n")
    monkeypatch.setenv("PAD_TEACHER_PORT", "2")
    monkeypatch.setenv("PAD_TEACHER_HOST", "127.0.0.3")
    settings = read_settings(["--config", str(file), "--host", "127.0.0.4"])
    assert (settings.model, settings.port, settings.host) == ("from-yaml", 2, "127.0.0.4")
    assert (settings.drain_seconds, settings.dtype) == (7, "auto")


@pytest.mark.parametrize("given", ['{"enable_thinking": false}', "enable_thinking=false"])
def test_arguments_of_the_template_are_typed(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings(["--model", "m", "--template-args", given, "--date", "2031-02-03"])
    assert settings.template_args == {"enable_thinking": False}
    assert settings.date.isoformat() == "2031-02-03"
    monkeypatch.setenv("PAD_TEACHER_TEMPLATE_ARGS", '{"enable_thinking": false}')
    assert read_settings(["--model", "m"]).template_args == {"enable_thinking": False}


@pytest.mark.parametrize(
    "text",
    [b"[", b"\0", b"\xff", b"[" * 9999, *(b"date: " + value for value in (b"2020-13-45", b"0x_", b"!!bool x"))],
)
def test_a_file_that_is_no_yaml_is_one_line_and_status_2(
    tmp_path: Path, text: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.yaml").write_bytes(text)
    assert main(["serve", "m", "--config", str(tmp_path / "broken.yaml")]) == 2
    error = capsys.readouterr().err
    assert "broken.yaml is not YAML: " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("value", ["0x_", "!!bool x", "!!int ''", "!!timestamp x", "[" * 9999])
def test_a_value_that_is_no_yaml_stays_a_text_too(value: str) -> None:
    assert read_settings(["m", "--engine", "vllm", "--vllm.foo", value]).vllm == {"foo": value}


def test_a_text_that_is_no_yaml_stays_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings(["m", "--template-args", "a=[1"]).template_args == {"a": "[1"}
    assert read_settings(["m", "--engine", "vllm", "--vllm.foo", "@x"]).vllm == {"foo": "@x"}
    assert read_settings(["m", "--engine", "vllm", "--vllm.foo", "2020-13-45"]).vllm == {"foo": "2020-13-45"}
    monkeypatch.setenv("PAD_TEACHER_VLLM__FOO", "@x")
    assert read_settings(["m", "--engine", "vllm"]).vllm == {"foo": "@x"}


def test_the_settings_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "teacher.yaml").write_text("model: m")
    monkeypatch.setenv("PAD_TEACHER_CONFIG", str(tmp_path / "teacher.yaml"))
    assert read_settings([]).model == "m"


def test_typos_are_refused_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSettings, match="--prot"):
        read_settings(["--model", "m", "--prot", "1"])
    (tmp_path / "teacher.yaml").write_text("model: m\nprot: 1\n")
    with pytest.raises(BadSettings, match="prot"):
        read_settings(["--config", str(tmp_path / "teacher.yaml")])
    with pytest.raises(BadSettings, match="no settings file"):
        read_settings(["--config", "nowhere.yaml"])
    monkeypatch.setenv("PAD_TEACHER_PROT", "1")
    with pytest.raises(BadSettings, match="PAD_TEACHER_PROT"):
        read_settings(["--model", "m"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--model", "m", "--keys", "nowhere"],
        ["serve", "--model", "m", "--host", "0.0.0.0"],
        ["serve", "--model", "m", "--data", "/dev/null/data"],
        ["serve", "my teacher", "--port", "0"],
        ["serve", "org/repo:Q4_K_M", "--port", "0"],
        ["serve", "a/b/c", "--port", "0"],
        ["serve", "x" * 5000, "--port", "0"],
        ["key", "add", "a b", "--keys", "keys"],
        ["key", "add", "lab", "--keys", "no/such/folder/keys"],
        ["key", "add", "lab", "--keys", "keys", "--weight", "0"],
        ["key", "revoke", "lab", "--keys", "keys"],
        ["key", "list", "--keys", "keys"],
    ],
)
def test_a_mistake_is_one_line_and_status_1(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("pad-teacher: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["serve"], ["serve", "m", "--port", "99999"], ["serve", "m", "--prot", "1"]])
def test_a_wrong_setting_is_one_line_and_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("pad-teacher: ")
    assert error.count("\n") == 1


def test_a_key_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "add", "lab", "--keys", str(tmp_path / "keys")]) == 0
    assert capsys.readouterr().out.startswith("pad_")


def test_the_list_of_keys_has_names_and_limits_and_never_a_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ["--keys", str(tmp_path / "keys")]
    assert main(["key", "add", "lab", *keys, "--weight", "2", "--tokens-per-minute", "5000", "--metrics"]) == 0
    assert main(["key", "add", "gone", *keys]) == 0
    assert main(["key", "revoke", "gone", *keys]) == 0
    capsys.readouterr()
    assert main(["key", "list", *keys]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "weight", "tokens", "a", "minute", "tokens", "a", "day", "metrics"]
    assert line.split() == ["lab", "2", "5000", "-", "yes"]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["serve", "--help"], ["key", "add", "--help"], ["key", "list", "--help"]]
)
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    code = (
        "import sys, pad_teacher.cli as cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules or 'fastapi' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (ran.returncode, "usage" in ran.stdout) == (0, True)


def test_version_is_printed_without_torch() -> None:
    code = (
        "import sys, pad_teacher.cli as cli\n"
        "status = cli.main(['--version'])\n"
        "sys.exit(status or 'torch' in sys.modules or 'transformers' in sys.modules or 'fastapi' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, f"pad-service {version('pad-service')}\n")


@pytest.mark.parametrize("service", ["", "GEMMA_"])
def test_service_links_of_kubernetes_are_no_settings(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    links = {
        "SERVICE_HOST": "10.96.14.7",
        "SERVICE_PORT": "8010",
        "SERVICE_PORT_HTTP": "8010",
        "PORT": "tcp://10.96.14.7:8010",
        "PORT_8010_TCP": "tcp://10.96.14.7:8010",
        "PORT_8010_TCP_PROTO": "tcp",
        "PORT_8010_TCP_PORT": "8010",
        "PORT_8010_TCP_ADDR": "10.96.14.7",
    }
    for name, value in links.items():
        monkeypatch.setenv(f"PAD_TEACHER_{service}{name}", value)
    assert read_settings(["--model", "m"]).port == 8010
    monkeypatch.setenv("PAD_TEACHER_PORT", "9000")
    assert read_settings(["--model", "m"]).port == 9000, "a number is a setting"
    monkeypatch.setenv("PAD_TEACHER_PROT", "9000")
    with pytest.raises(BadSettings, match="PAD_TEACHER_PROT"):
        read_settings(["--model", "m"])
