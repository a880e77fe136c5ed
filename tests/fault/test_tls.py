"""HTTPS between real processes, and certificates that do not fit."""

import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trustme

from support.processes import ENVIRONMENT, student, teacher_process

SET = '{"id":"0","prompt":"Why?","responses":[{"text":"so","finished":true},{"text":"because","finished":true}]}\n'


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """PEM files: the authority, a certificate for this machine, its key, and the key of another."""
    folder = tmp_path_factory.mktemp("tls")
    issued, other = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("other.example")
    contents = {
        "authority": authority.cert_pem.bytes(),
        "certificate": issued.cert_chain_pems[0].bytes(),
        "key": issued.private_key_pem.bytes(),
        "other": other.private_key_pem.bytes(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_a_certificate_means_https_alone_and_students_check_it(
    tiny_directory: Path, tmp_path: Path, authority: trustme.CA, files: dict[str, Path]
) -> None:
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    options = ("--tls-certificate", str(files["certificate"]), "--tls-key", str(files["key"]))
    with teacher_process(tiny_directory, tmp_path / "log", *options, trusted=trusted) as teacher:
        teacher.wait_until_ready()
        assert teacher.url.startswith("https://")
        plain = teacher.url.replace("https", "http")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{plain}/v1/health/live")
        sets = tmp_path / "sets.jsonl"
        sets.write_text(SET)
        ask = ("score", "--teacher", teacher.url, "--sets", sets, "--out", tmp_path / "scored.jsonl")
        done = student(*ask, environment={"SSL_CERT_FILE": str(files["authority"])})
        assert done.returncode == 0, done.stderr
        stranger = student(*ask[:-1], tmp_path / "other.jsonl")
        assert stranger.returncode == 1
        assert "certificate" in stranger.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "given",
    [
        {"--tls-certificate": "certificate"},
        {"--tls-key": "key"},
        {"--tls-certificate": "certificate", "--tls-key": "other"},
        {"--tls-certificate": "nowhere", "--tls-key": "key"},
    ],
)
def test_a_wrong_certificate_pair_is_one_line_before_loading(given: dict[str, str], files: dict[str, Path]) -> None:
    options = [part for flag, name in given.items() for part in (flag, str(files.get(name, name)))]
    command = [sys.executable, "-m", "pad_teacher", "serve", "--model", "nowhere", "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
    assert done.returncode == 1
    assert "--tls-" in done.stderr
    assert len(done.stderr.splitlines()) == 1
