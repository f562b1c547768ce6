"""The contract source `reflection`: what a gRPC server says of itself when the config is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import grpc
from pydantic import Field

from adapters.grpc.metadata import Metadata
from adapters.grpc.reflection import MAX_BYTES, Reflecting, ReflectionError, reflected
from gateway.contract import ContractConfig, ContractError
from gateway.port import BackendConfig
from gateway.remedy import did_you_mean


class Config(ContractConfig):
    """What a gRPC server tells by reflection (v1, or v1alpha where it has no v1). It must be there when the config is loaded."""

    reflection: str = Field(min_length=1, examples=["stock", "stock:50051"])
    """A grpc backend of this file, with its TLS and its metadata; or the address of a server, in clear text."""
    seconds: float = Field(default=5.0, gt=0, le=60)
    """Within which it must have told everything."""

    def read(self, folder: Path, backends: Mapping[str, BackendConfig]) -> bytes:
        del folder
        channel, metadata = self._dialled(backends)
        try:
            with channel:
                return reflected(channel, metadata, self.seconds)
        except ReflectionError as error:
            raise ContractError(f"{self.reflection} {error}") from error

    def _dialled(self, backends: Mapping[str, BackendConfig]) -> tuple[grpc.Channel, Metadata]:
        backend = backends.get(self.reflection)
        if isinstance(backend, Reflecting):
            return backend.dial()
        if backend is not None:
            raise ContractError(f"the backend {self.reflection} is {backend.kind}, and only grpc has reflection")
        if ":" not in self.reflection:
            known = [name for name, one in backends.items() if isinstance(one, Reflecting)]
            raise ContractError(
                f"there is no grpc backend {self.reflection!r}{did_you_mean(self.reflection, known)}; an address has a port"
            )
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", MAX_BYTES)]
        return grpc.insecure_channel(self.reflection, options), ()
