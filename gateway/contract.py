"""Where contracts come from: each entry of `contracts:` gives files of definitions, which are then read as one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from gateway import registry
from gateway.codec import NO_CONTRACTS, Contract, Contracts, Type
from gateway.file import SchemaConfig
from gateway.part import Part
from gateway.port import BackendConfig
from gateway.remedy import did_you_mean, validated
from gateway.source import Source, Where
from gateway.target import TargetConfig


class ContractError(Exception):
    """A source that gives no contracts; a text for each problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


class ContractConfig(Part, ABC):
    """An entry of `contracts:`. Each kind has a field of its own name, which says where: {reflection: stock}."""

    @abstractmethod
    def read(self, folder: Path, backends: Mapping[str, BackendConfig]) -> bytes:
        """A serialized FileDescriptorSet. Called once, when the config is loaded; ends within a bounded time.

        A relative path starts at `folder`. Raises ContractError.
        """

    def inputs(self, folder: Path) -> Iterable[Path]:
        """The files, and the folders with whatever is in them, that it is made of, as far as can be told before they are read."""
        del folder
        return ()


class Compiled(Type, Protocol):
    """A type from a schema."""

    digest: str
    """What the schema comes to, with all that it refers to."""
    files: Sequence[Path]
    """Those that it refers to."""


class MisfitError(ValueError):
    """A set that cannot be read with those before it: its number and, where they contradict each other, that of the other."""

    def __init__(self, text: str, number: int, other: int | None = None) -> None:
        super().__init__(text)
        self.number = number
        self.other = other


Entry = str | Mapping[str, object]


def contracts(source: Source, entries: Sequence[Entry], backends: Mapping[str, BackendConfig]) -> Contracts:
    """Every contract of every source. What is wrong is noted in the config's source."""
    sets: list[bytes] = []
    before = len(source.problems)
    for index, entry in enumerate(entries):
        where = ("contracts", index)
        config = _config(source, entry, where)
        if config is None:
            continue
        source.note(*config.inputs(source.folder(where)))
        try:
            sets.append(config.read(source.folder(where), backends))
        except ContractError as error:
            for text in error.problems:
                source.wrong(where, text)
    if not sets or len(source.problems) > before:
        return NO_CONTRACTS
    try:
        found: Contracts = registry.load(registry.CODEC, "protobuf").contracts(sets)
    except MisfitError as error:
        other = "" if error.other is None else f" {_written(entries[error.other])}"
        source.wrong(("contracts", error.number), f"{error}{other}")
        return NO_CONTRACTS
    return found


def _config(source: Source, entry: Entry, where: Where) -> ContractConfig | None:
    """The model of one entry: a text is the path of a .proto, of a folder of them, or of a descriptor set."""
    known = registry.kinds(registry.CONTRACT)
    if isinstance(entry, str):
        kind = "proto" if entry.endswith(".proto") or (source.folder(where) / entry).is_dir() else "descriptors"
        entry = {kind: entry}
    said = [name for name in entry if name in known]
    if len(said) != 1:
        near = did_you_mean(str(next(iter(entry), "")), known) if not said else ""
        source.wrong(where, f"names one source: {', '.join(known)}{near if 'did you' in near else ''}")
        return None
    try:
        model: type[ContractConfig] = registry.load(registry.CONTRACT, said[0])
    except registry.MissingKindError as error:
        source.wrong(where, str(error))
        return None
    return validated(source, model, entry, where)


def schema_contract(source: Source, said: SchemaConfig, to: TargetConfig, where: Where) -> Contract | None:
    """The contract of a route whose messages have JSON Schemas; what streams is what the target streams without one."""
    unused = _unused(said, to)
    if unused is not None:
        source.wrong((*where, unused[0]), unused[1])
        return None
    try:
        compiled: Callable[..., Compiled] = registry.load(registry.SCHEMA, "json")
    except registry.MissingKindError as error:
        source.wrong(where, str(error))
        return None
    kinds: list[Compiled] = []
    folder = source.folder(where)
    for field, schema in (("request", said.request), ("reply", said.reply)):
        if isinstance(schema, str):
            source.note(folder / schema)
        try:
            kinds.append(compiled(schema, folder, formats=said.formats))
            source.note(*kinds[-1].files)
        except ContractError as error:
            source.wrong((*where, field), str(error))
    if len(kinds) < len(("request", "reply")):
        return None
    request, reply = kinds
    return Contract(f"{request.name} -> {reply.name}", request, reply, to.many(None))


def schema_digests(route: str, said: SchemaConfig, contract: Contract) -> dict[str, str]:
    """What the schemas of a route come to, by their paths; one that stands in the config is called after its route."""
    sides = (("request", said.request, contract.request), ("reply", said.reply, contract.reply))
    return {
        schema if isinstance(schema, str) else f"{route} {side}": cast("Compiled", kind).digest
        for side, schema, kind in sides
        if schema is not None
    }


def _unused(said: SchemaConfig, to: TargetConfig) -> tuple[str, str] | None:
    """A schema that nothing would ever be held against."""
    if said.request is None and said.reply is None:
        return "request", "is missing, and so is reply: a contract has one of them at least"
    if said.reply is not None and to.verb == "publish":
        return "reply", "would never be asked: a publish answers a receipt, which is the gateway's own"
    if said.request is not None and to.verb == "tail":
        return "request", "would never be asked: what a tail is asked is the gateway's own"
    return None


def _written(entry: Entry) -> str:
    """An entry as the file has it."""
    if isinstance(entry, str):
        return entry
    return f"{{{', '.join(f'{name}: {value}' for name, value in entry.items())}}}"
