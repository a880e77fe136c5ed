"""What an attacker does to a service: each function goes on until its process is killed."""

import json
import os
import resource
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

CONNECTIONS = 3000  # silent ones, more than the service takes

Attack = Callable[[str, str], None]  # takes the service's address and the attacker's key


def half_bodies(url: str, key: str) -> None:
    """Twenty bodies at a time that stop at their last byte but one; each is begun again once it is closed."""
    address, size = urlsplit(url), 2 * 2**20
    head = f"POST /v1/score HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Length: {size}\r\n\r\n"

    def again_and_again() -> None:
        while True:
            try:
                with socket.create_connection((address.hostname, address.port), 60) as connection:
                    connection.sendall(head.encode() + b" " * (size - 1))
                    while connection.recv(2**16):
                        pass
            except OSError:
                time.sleep(0.01)

    _in_threads(again_and_again, 20)


def refused_questions(url: str, key: str) -> None:
    """1,024 sets of 5 responses in every order, again and again from four clients: always refused."""
    _post_again_and_again(url, key, "selection", [{"prompt": "hi", "responses": list("abcde")}] * 1024, orders="all")


def refused_texts(url: str, key: str) -> None:
    """A prompt of 2 MB, again and again from four clients: always refused."""
    _post_again_and_again(url, key, "likelihood", [{"prompt": "so it goes, " * 170_000, "responses": ["yes"]}])


def refused_budget(url: str, key: str) -> None:
    """60 sets that cost more than the key's minute, again and again from four clients: always refused."""
    sets = [{"prompt": f"hi {number}", "responses": ["yes " * 200, "no " * 200]} for number in range(60)]
    _post_again_and_again(url, key, "score", sets)


def many_texts(url: str, key: str) -> None:
    """1,024 sets of 256 responses of a letter, again and again from four clients: always refused."""
    _post_again_and_again(url, key, "likelihood", [{"prompt": "hi", "responses": ["a"] * 256}] * 1024)


def silent_connections(url: str, _key: str) -> None:
    """More connections than the service takes; each is opened again once it is closed."""
    _connections(url, b"")


def begun_connections(url: str, _key: str) -> None:
    """The same, with one byte of a request in each: silent ones may stay with the kernel."""
    _connections(url, b"P")


def _connections(url: str, sent: bytes) -> None:
    address = urlsplit(url)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(CONNECTIONS, hard - 100)
    opened: list[socket.socket] = []
    while True:
        for connection in opened[:]:
            try:
                connection.setblocking(False)
                gone = not connection.recv(1)
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            if gone:
                connection.close()
                opened.remove(connection)
        while len(opened) < count:
            try:
                opened.append(socket.create_connection((address.hostname, address.port), 5))
                opened[-1].send(sent)
            except OSError:
                break
        time.sleep(0.2)


ATTACKS: dict[str, Attack] = {
    "half bodies of one key": half_bodies,
    "refused questions": refused_questions,
    "refused texts": refused_texts,
    "refused for the minute's budget": refused_budget,
    "refused bodies of many texts": many_texts,
    "silent connections, no key": silent_connections,
    "connections of one byte, no key": begun_connections,
}


def attack(name: str, url: str, key: str) -> None:
    """Attack by name, in a process of its own. It leaves the cores to the service: it stands for other machines."""
    os.nice(19)
    ATTACKS[name](url, key)


def _post_again_and_again(url: str, key: str, route: str, sets: Any, **fields: Any) -> None:
    content = json.dumps({"sets": sets, **fields})

    def again_and_again() -> None:
        with httpx.Client(timeout=None, trust_env=False, headers={"Authorization": f"Bearer {key}"}) as http:
            while True:
                try:
                    http.post(f"{url}/v1/{route}", content=content)
                except httpx.TransportError:
                    time.sleep(0.01)

    _in_threads(again_and_again, 4)


def _in_threads(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
