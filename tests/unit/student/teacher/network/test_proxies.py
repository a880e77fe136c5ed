"""Proxies of the environment: loopback goes round them, and one that cannot be used is named with its variable."""

import httpx
import pytest

from pad_student.teacher.network.http import BadAddress, HttpAddress, NoReply
from pad_student.teacher.network.proxies import proxy_for

PROXY_VARIABLES = [f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "[::1]", "teacher.localhost"])
@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY", "http_proxy"])
def test_loopback_goes_round_every_proxy(monkeypatch: pytest.MonkeyPatch, host: str, variable: str) -> None:
    monkeypatch.setenv(variable, "socks5://proxy:1080")
    assert proxy_for(httpx.URL(f"http://{host}:8010")) is None
    HttpAddress(f"http://{host}:8010", "teacher").close()


@pytest.mark.parametrize("exception", ["10.0.0.0/8", "teacher.lab,10.1.2.3", "*"])
def test_no_proxy_excepts_hosts_and_networks(monkeypatch: pytest.MonkeyPatch, exception: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    assert proxy_for(httpx.URL("http://10.1.2.3:8010")) is not None
    monkeypatch.setenv("NO_PROXY", exception)
    assert proxy_for(httpx.URL("http://10.1.2.3:8010")) is None


def test_the_proxy_is_that_of_the_addresss_own_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5h://user:secret@proxy:1080")
    assert proxy_for(httpx.URL("http://teacher.lab")) is None
    found = proxy_for(httpx.URL("https://teacher.lab"))
    assert found
    assert (found.variable, found.shown) == ("HTTPS_PROXY", "socks5h://proxy:1080"), "no password in messages"


@pytest.mark.parametrize("url", ["socks5://proxy:1080", "socks://proxy:1080", "nonsense://proxy"])
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ALL_PROXY", url)
    with pytest.raises(BadAddress, match=r"ALL_PROXY names the proxy .*NO_PROXY=teacher\.lab"):
        HttpAddress("http://teacher.lab:8010", "teacher")


def test_a_proxy_that_is_away_is_named_and_not_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(NoReply, match=r"through the proxy http://127\.0\.0\.1:9 \(connection refused\).*NO_PROXY"):
        HttpAddress("http://teacher.lab:8010", "teacher").exchange("/v1/models", None, 5)


def test_certificates_that_cannot_be_read_name_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(BadAddress, match="SSL_CERT_FILE"):
        HttpAddress("https://127.0.0.1:8010", "teacher")
