"""The library behind a running gateway: a gRPC server that says back what it is told, so that an answer is what arrived."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import grpc

from tests.spec.contract import HERE
from tests.system.process import Gateway

ECHO, EDIT = "library.v1.Library/Echo", "library.v1.Library/EditBook"
PATIENCE_S = 30


class Echo(grpc.GenericRpcHandler):
    """Every method answers its request, and keeps it."""

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def service(self, _details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._run)

    def _run(self, request: bytes, _context: Any) -> bytes:
        self.told.append(request)
        return request


@dataclass(frozen=True)
class Answer:
    """What the gateway answered."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def pointers(self) -> list[str]:
        """The fields that a refusal names."""
        return [error["pointer"] for error in self.json.get("errors", ())]


class Library:
    """A running gateway, and the backend behind it."""

    def __init__(self, gateway: Gateway, echo: Echo) -> None:
        self._address = gateway.addresses["rest"]
        self._echo = echo

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request, its path as it stands. `body` is sent as JSON unless it is bytes."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if data is not None:
            sent = {"content-type": "application/json", **sent}
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE_S)
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), {name.lower(): text for name, text in answer.getheaders()})
        finally:
            connection.close()

    def told(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """What the backend is told of a request that is taken, in JSON."""
        answer = self.ask(method, path, body, **headers)
        assert 200 == answer.status, answer.body
        return answer.json

    @property
    def last(self) -> bytes:
        """The message that the backend was told last, as it came."""
        return self._echo.told[-1]

    def refused(self, method: str, path: str, body: object = None, **headers: str) -> list[str]:
        """The fields that are told of a request that is malformed. The backend never hears of it."""
        before = len(self._echo.told)
        answer = self.ask(method, path, body, **headers)
        assert 400 == answer.status, answer.body
        assert "malformed" == answer.json["reason"]
        assert before == len(self._echo.told)
        return answer.pointers


@contextmanager
def library(routes: str, folder: Path, services: str = "{}") -> Iterator[Library]:
    """Serve routes (YAML, a list) to the library, and services of its contract. `ECHO` and `EDIT` are its methods."""
    echo = Echo()
    server = grpc.server(ThreadPoolExecutor(2), handlers=(echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    config = f"""
contracts: [{HERE}/library.proto]
listeners:
  rest: {{kind: rest, bind: "127.0.0.1:0", max_field: 1MiB}}
backends:
  library: {{kind: grpc, address: "127.0.0.1:{port}"}}
services: {services}
routes:
{routes or "  []"}"""
    try:
        with Gateway(config, folder) as gateway:
            yield Library(gateway, echo)
    finally:
        server.stop(None).wait(PATIENCE_S)


def route(*calls: str, method: str = ECHO, **settings: str) -> str:
    """One route of a config: its calls as YAML, and what else it says."""
    more = "".join(f", {name}: {text}" for name, text in settings.items())
    return (
        f"  - {{name: r{next(_NUMBERS)}, when: {{rest: [{', '.join(calls)}]}}, to: {{backend: library, call: {method}}}{more}}}\n"
    )


def call(text: str, body: str | None = None, response_body: str = "") -> str:
    """One call of a route, with what its body and its response stand for."""
    said = {
        "call": text,
        **({} if body is None else {"body": body}),
        **({"response_body": response_body} if response_body else {}),
    }
    return json.dumps(said)


_NUMBERS = count(1)
