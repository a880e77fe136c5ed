"""Which proxy of the environment an address is reached through; addresses of this machine need none."""

import ipaddress
import os
from dataclasses import dataclass
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import httpx


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, the environment variable that names it, and its URL for messages, without user and password."""

    url: str
    variable: str
    shown: str


def proxy_for(url: httpx.URL) -> Proxy | None:
    """The proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY for ``url``; None if it is reached directly.

    A loopback address is never reached through a proxy, whose loopback is another one. NO_PROXY excepts hosts,
    domains and, as curl has it, networks such as 10.0.0.0/8.
    """
    if _is_loopback(url.host) or proxy_bypass_environment(url.host) or _in_a_network(url.host):
        return None
    proxies = getproxies_environment()
    scheme = url.scheme if url.scheme in proxies else "all"
    if scheme not in proxies:
        return None
    found = proxies[scheme] if "://" in proxies[scheme] else f"http://{proxies[scheme]}"
    variable = next((name for name in os.environ if name.lower() == f"{scheme}_proxy"), f"{scheme.upper()}_PROXY")
    before, at, address = found.rpartition("@")
    return Proxy(found, variable, f"{before.partition('://')[0]}://{address}" if at else found)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _in_a_network(host: str) -> bool:
    address = _address(host)
    entries = (entry.strip() for entry in getproxies_environment().get("no", "").split(","))
    return address is not None and any(address in network for entry in entries if (network := _network(entry)))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False) if "/" in entry else None
    except ValueError:
        return None
