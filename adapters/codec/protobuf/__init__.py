"""The format `protobuf`, and contracts from descriptor sets: what a message means is compiled when the config is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool

from adapters.codec.protobuf.contract import contracts
from adapters.codec.protobuf.kind import MessageType, Pool
from gateway.codec import Codec, Contracts, Type
from gateway.message import PROTOBUF

__all__ = ["FORMAT", "MessageType", "Pool", "ProtobufFormat"]


class _Codec:
    def __init__(self, kind: Type) -> None:
        self.decode = kind.unpack
        self.encode = kind.pack


class ProtobufFormat:
    """See `Format`."""

    name = "protobuf"
    content_types: tuple[str, ...] = (PROTOBUF, "application/protobuf")
    typed = True
    opaque = False
    pairs = None

    def codec(self, kind: Type | None) -> Codec:
        if kind is None:
            raise ValueError("protobuf has no meaning without a contract")
        if not kind.binary:
            raise ValueError(f"protobuf cannot write {kind.name}, which has no binary form: a JSON Schema says what JSON means")
        return _Codec(kind)

    def contracts(self, sets: Sequence[bytes]) -> Contracts:
        """Every method of every service in serialized FileDescriptorSets. Raises MisfitError for what is none."""
        pools: dict[DescriptorPool, Pool] = {}

        def make(descriptor: Descriptor, pool: DescriptorPool) -> MessageType:
            if pool not in pools:
                pools[pool] = Pool(pool)
            return MessageType(descriptor, pools[pool])

        found = contracts(sets, make)
        for pool in pools.values():
            pool.digest = hashlib.sha256(b"".join(found.files)).digest()
        return found


FORMAT = ProtobufFormat()
