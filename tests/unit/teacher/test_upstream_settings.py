"""Settings of a teacher behind an API: a mistake in them is one line, before anything is loaded or asked."""

from pathlib import Path

import pytest

from pad_teacher.errors import CannotServe
from pad_teacher.scoring.black_box.load import read_key
from pad_teacher.serve.preflight import check_upstream
from pad_teacher.settings import BadSettings, ServeSettings, UsageError, read_settings

OPENAI = ["--engine", "openai", "--upstream", "https://api.test/v1", "--upstream-model", "m"]


def test_the_upstreams_model_takes_the_models_place() -> None:
    settings = read_settings(OPENAI)
    assert (settings.model, settings.upstream_model) == ("m", "m")
    assert read_settings([*OPENAI, "--model", "m"]) == settings


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--engine", "openai"], "--upstream"),
        (OPENAI[:4], "--upstream-model"),
        ([*OPENAI, "--model", "other"], "--upstream-model names the model"),
        ([*OPENAI, "--dtype", "float16"], "--dtype is not for --engine openai"),
        ([*OPENAI, "--reference", "other"], "--reference is not for --engine openai"),
        ([*OPENAI, "--upstream-votes", "1"], "upstream_votes"),
        (["--model", "m", "--upstream-votes", "8"], "--upstream-votes needs --engine openai"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(arguments: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read_settings(arguments)


@pytest.mark.parametrize("url", ["api.test/v1", "ftp://api.test", "https://", "https://api.test:x/v1", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadSettings, match="must look like"):
        check_upstream(ServeSettings(engine="openai", upstream=url, upstream_model="m", model="m"))


@pytest.mark.parametrize("url", ["https://me:sk-1@api.test/v1", "https://api.test/v1?key=sk-1"])
def test_a_secret_in_the_address_is_refused_unquoted(url: str) -> None:
    with pytest.raises(BadSettings, match="--upstream-key-file") as refused:
        check_upstream(ServeSettings(engine="openai", upstream=url, upstream_model="m", model="m"))
    assert "sk-1" not in str(refused.value)


def test_a_key_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    settings = ServeSettings(
        engine="openai", upstream="https://api.test", upstream_model="m", model="m", upstream_key_file=tmp_path / "no"
    )
    with pytest.raises(BadSettings, match="No such file"):
        check_upstream(settings)


@pytest.mark.parametrize("content", ["", "sk-1 sk-2\n", "sk-1\nsk-2\n", "sk-ü\n"])
def test_a_key_file_of_another_shape_is_refused_unquoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(CannotServe, match="must hold the key") as refused:
        read_key(path)
    assert "sk-" not in str(refused.value)


def test_a_key_is_the_files_one_line(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-1\r\n")
    assert read_key(path) == "sk-1"
