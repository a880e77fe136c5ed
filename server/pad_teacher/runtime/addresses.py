"""Hosts and ports as URLs write them, and which of them are this machine's own."""

import ipaddress


def authority(host: str, port: int | str) -> str:
    """Host and port as they stand in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address; True for the name localhost, and for no other name."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
