"""Types from JSON Schemas (2020-12): what the messages of a route without protobuf mean. They have JSON, and no binary form.

Validated by jsonschema-rs, with its linear regular expressions: no pattern and no message makes it take for ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import jsonschema_rs

from adapters.codec.schema.bind import Binder, converter
from adapters.codec.schema.wording import Finding, findings
from gateway.codec import Bind, JsonOptions, Rule, Value
from gateway.contract import ContractError
from gateway.errors import CallerError, FieldError, GatewayError, Reason
from gateway.jsontext import loads
from gateway.schema import Leaf, Schema, Schemas

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_FILE = 4 << 20
MAX_FILES = 1_000
# The library makes every error before it gives the first, each with a copy of what is wrong, and for anyOf and oneOf those of
# every branch at every depth. So places are looked for where there can be few, of little text.
MAX_ERRORS = 500
TEXT = 64
_NO_REGEX = 'is not a "regex"'
_PATTERNS = jsonschema_rs.RegexOptions()


def compiled(schema: str | Mapping[str, Any] | None, folder: Path, *, formats: bool) -> SchemaType:
    """The type of a schema: a path that starts at `folder`, the schema itself, or None for any JSON. Raises ContractError."""
    if schema is None:
        return SchemaType("any JSON", True, folder.resolve() / "-", formats=formats)
    if isinstance(schema, str):
        path = (folder / schema).resolve()
        return SchemaType(schema, _read(path, schema), path, formats=formats)
    return SchemaType(str(schema.get("title") or "the schema"), dict(schema), folder.resolve() / "-", formats=formats)


def _read(path: Path, named: str) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        reason = (error.strerror or "no reason given").lower()
        raise ContractError(f"{named} cannot be read ({reason}); it is looked for beside this file") from error
    if len(content) > MAX_FILE:
        raise ContractError(f"{named} is larger than {MAX_FILE >> 20} MiB")
    try:
        value = loads(content)
    except GatewayError as error:
        raise ContractError(f"{named} is not acceptable JSON: {error.message.partition(': ')[2]}") from error
    if not isinstance(value, dict | bool):
        raise ContractError(f"{named} is no JSON Schema: that is an object, or true or false")
    return value


class _Files:
    """What `$ref` may lead to: files below the folder of the schema, and nothing over a network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.read: list[Path] = []

    def __call__(self, uri: str) -> Any:
        parts = urlsplit(uri)
        path = Path(unquote(parts.path)).resolve()
        if parts.scheme != "file" or parts.netloc:
            raise ContractError(f"{uri} is not fetched: a $ref leads to a file beside the schema")
        if not path.is_relative_to(self._folder):
            raise ContractError(f"{uri} is not read: a $ref leads to a file in the schema's folder or below")
        self.read.append(path)
        if len(self.read) > MAX_FILES:
            raise ContractError(f"its references lead to more than {MAX_FILES} files")
        return _read(path, str(path.relative_to(self._folder)))


class SchemaType:
    """See `Type`."""

    binary = False

    def __init__(self, name: str, schema: Any, path: Path, *, formats: bool) -> None:
        self.name = name
        self._path = path
        self._formats = formats
        self.files: tuple[Path, ...] = ()
        if isinstance(schema, dict) and str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
            raise ContractError(f"{name} is of another dialect ({schema['$schema']}): {DIALECT} is served")
        at, files = path.as_uri(), _Files(path.parent)
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                schema, pattern_options=_PATTERNS, validate_formats=formats, mask="it", base_uri=at, retriever=files
            )
            self._whole = jsonschema_rs.dereference(schema, draft=jsonschema_rs.Draft202012, base_uri=at, retriever=files)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            _refuse(name, error)
        self.files = tuple(dict.fromkeys(files.read))
        told = self._whole if isinstance(self._whole, dict) else {}
        properties = told.get("properties")
        self._properties: Mapping[str, Any] = properties if isinstance(properties, dict) else {}
        self._closed = told.get("additionalProperties") is False
        self.fields: tuple[str, ...] = tuple(self._properties)
        self.columns = self.fields
        self._branches = _branching(self._whole)
        self._converters = {field: converter(one) for field, one in self._properties.items()}
        self.digest = hashlib.sha256(json.dumps([self._whole, formats], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def part(self) -> SchemaType:
        """A schema cannot be told without what it requires: any JSON."""
        return SchemaType("any JSON", True, self._path, formats=self._formats)

    def under(self, options: JsonOptions) -> SchemaType:
        """The options are those of protobuf's JSON mapping: loading a config refuses them here."""
        del options
        return self

    def check(self, value: Value) -> Value:
        """The very value. Raises CallerError(INVALID) with the places that do not fit."""
        if self._validator.is_valid(value):
            return value
        errors = tuple(FieldError(one.pointer, one.detail) for one in self._findings(value))
        raise CallerError(Reason.INVALID, "the message does not fit its schema", details=errors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SchemaType) and (self.name, self.digest) == (other.name, other.digest)

    def __hash__(self) -> int:
        return hash((self.name, self.digest))

    def _findings(self, value: Value) -> Sequence[Finding]:
        if _within(value, MAX_ERRORS, self._branches):
            return findings(self._validator.iter_errors(value))
        if self._branches > 1:
            return (Finding("", "does not fit; it is too large for the place to be looked for"),)
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return findings(iter((error,)))
        raise AssertionError("what is not valid is not valid the second time either")

    def pack(self, _value: Value) -> NoReturn:
        """Never called."""
        raise AssertionError("a format that needs a binary form is refused when the config is loaded")

    unpack = pack_json = unpack_json = pack

    def bind(self, rule: Rule) -> Bind:
        for name in (*rule.variables, *(() if rule.body in {"*", ""} else (rule.body,))):
            if "." in name:
                raise ValueError(f"{name}: of a message with a JSON Schema a call can say the properties at the top only")
            if self._closed and name and name not in self._properties:
                raise ValueError(f"{self.name} has no property {name}, and allows no other")
        return Binder(rule, self._converters).bind

    def pick(self, field: str) -> Callable[[Value], Value]:
        if self._closed and field not in self._properties:
            raise ValueError(f"{self.name} has no property {field}, and allows no other")
        return lambda value: value.get(field) if isinstance(value, dict) else None

    def raw(self, field: str) -> bool:
        """Never: a google.api.HttpBody is a protobuf message."""
        del field
        return False

    def schema(self, schemas: Schemas, *, sent: bool, field: str = "", without: Sequence[str] = ()) -> Schema:
        del schemas, sent
        if field:
            return _told(self._properties.get(field, {}))
        told = _told(self._whole)
        if without and told:
            told["properties"] = {name: one for name, one in self._properties.items() if name not in without}
            told["required"] = [name for name in told.get("required", ()) if name not in without]
        return told

    def leaves(self, schemas: Schemas, without: Sequence[str] = ()) -> Sequence[Leaf]:
        del schemas
        return [Leaf(name, name, _told(one)) for name, one in self._properties.items() if name not in without]


def _refuse(name: str, error: Exception) -> NoReturn:
    """A schema that cannot be used, in our words where the library's say nothing to whoever wrote it."""
    why, at = str(error).splitlines()[0], ""
    if isinstance(error, jsonschema_rs.ValidationError):
        (at, told), *_ = findings(iter((error,)))
        why = error.message.splitlines()[0]
        # What a reference leads to is told by the library; what is not as a schema must be, in our words.
        if error.kind.name != "$ref" and not why.endswith(_NO_REGEX):
            why = told
        elif why.endswith(_NO_REGEX):
            why = "this is no regular expression that is served (look-around and back-references can take for ever)"
    why = why.rpartition("retrieving it failed: ")[2].removeprefix("ContractError: ")
    raise ContractError(f"{name}{f' at {at}' if at else ''}: {why}") from error


def _within(value: Value, limit: int, branches: int) -> bool:
    """Whether a value is so small that it can have so many errors at the most: each of its values one, in every branch of every
    level. Of text, every `TEXT` characters count as a value.
    """
    level = [value]
    seen, ways = 0, 1
    while level:
        inside: list[Value] = []
        for one in level:
            seen += 1
            if isinstance(one, str):
                seen += len(one) // TEXT
            elif isinstance(one, dict | list):
                if len(one) > limit:
                    return False
                inside += [*one.keys(), *one.values()] if isinstance(one, dict) else one
            if (seen + len(inside)) * ways > limit:
                return False
        level = inside
        ways *= branches
    return True


def _branching(schema: Any) -> int:
    """The most branches that one place of a schema has."""
    most, waiting = 1, [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            most = max(most, *(len(one[name]) for name in ("anyOf", "oneOf") if isinstance(one.get(name), list)), 1)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return most


def _told(schema: Any) -> Schema:
    """A schema inside of a document: true is {}, and the document says the dialect."""
    if not isinstance(schema, dict):
        return {} if schema else {"not": {}}
    return {key: value for key, value in schema.items() if key != "$schema"}
