"""The contract source `descriptors`: a descriptor set, as protoc and buf write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field

from gateway.contract import ContractConfig, ContractError
from gateway.port import BackendConfig


class Config(ContractConfig):
    """A descriptor set (protoc --descriptor_set_out --include_imports, buf build)."""

    descriptors: str = Field(min_length=1, examples=["shop.binpb"])
    """Its path; a relative one starts at the config's folder."""

    def inputs(self, folder: Path) -> Iterable[Path]:
        return (folder / self.descriptors,)

    def read(self, folder: Path, backends: Mapping[str, BackendConfig]) -> bytes:
        del backends
        try:
            return (folder / self.descriptors).read_bytes()
        except OSError as error:
            reason = (error.strerror or "no reason given").lower()
            raise ContractError(f"{self.descriptors} cannot be read ({reason}); it is looked for beside this file") from error
