"""Golden files: a config above a line of dashes, and below it what loading gives: the resolved config, or the exact error text.

`.venv/bin/python -m tests.golden.golden` writes anew what stands below the lines. Read the difference before you commit it;
the tests only compare.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pb2

from gateway.part import Part
from gateway.plan import Plan, plan
from gateway.source import ConfigError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LINE = "----------\n"
ENVIRONMENT = {"HOST": "127.0.0.1", "PORT": "8080", "DIGITS": "007", "EMPTY": ""}


def cases() -> list[Path]:
    """Every golden file."""
    return sorted(HERE.glob("*.yaml"))


def halves(case: Path) -> tuple[str, str]:
    """A file's config, and what is expected of it."""
    config, _, expected = case.read_text(encoding="utf-8").partition(LINE)
    return config, expected


def actual(config: str) -> str:
    """What loading a config gives, in a folder with the shop's contracts and a secret."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        shutil.copy(ROOT / "protos/shop.binpb", "shop.binpb")
        Path("notes.binpb").write_bytes(notes())
        shutil.copytree(ROOT / "protos", "protos", ignore=shutil.ignore_patterns("*.binpb"))
        Path("broken.proto").write_text('syntax = "proto3";\nmessage Cup {\n  Tea tea = 1;\n}\n')
        Path("other").mkdir()
        Path("other/broken.proto").write_text('syntax = "proto3";\nmessage Cup {\n  string tea = 1;\n}\n')
        Path("schemas").mkdir()
        Path("schemas/order.json").write_text(
            '{"type": "object", "properties": {"sku": {"$ref": "sku.json"}}, "required": ["sku"]}'
        )
        Path("schemas/sku.json").write_text('{"type": "string"}')
        Path("schemas/draft-07.json").write_text('{"$schema": "http://json-schema.org/draft-07/schema#"}')
        Path("schemas/remote.json").write_text('{"$ref": "https://example.com/order.json"}')
        Path("secret").write_text("s3cret\n")
        Path("not-a-set").write_bytes(b"\xff")
        Path("gateway.yaml").write_text(config)
        try:
            return resolved(plan(Path("gateway.yaml"), ENVIRONMENT))
        except ConfigError as error:
            return f"{error}\n"


def notes() -> bytes:
    """A service with methods of the kinds that the shop has none of."""
    file = descriptor_pb2.FileDescriptorProto(name="notes.proto", package="notes", syntax="proto3")
    text = descriptor_pb2.FieldDescriptorProto
    file.message_type.add(name="Note").field.add(name="text", number=1, type=text.TYPE_STRING, label=text.LABEL_OPTIONAL)
    service = file.service.add(name="Notes")
    for name, many in (("Say", False), ("Upload", True)):
        service.method.add(name=name, input_type=".notes.Note", output_type=".notes.Note", client_streaming=many)
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def resolved(planned: Plan) -> str:
    """What a config says once its variables are filled in and its routes are bound; defaults are left out."""
    config = planned.config
    told: dict[str, Any] = {
        "listeners": {name: _plain(part) for name, part in config.listeners.items()},
        "backends": {name: _plain(part) for name, part in config.backends.items()},
        "routes": [
            {
                "name": route.name,
                **({"contract": route.contract.name} if route.contract else {}),
                "calls": [
                    f"{binding.protocol} {binding.when}: {' > '.join(policy.kind for policy in binding.policies)}"
                    + (" (each)" if binding.each else "")
                    for binding in route.bindings
                ],
                **({"left out": [f"{one.protocol} {one.call}: {one.why}" for one in route.left_out]} if route.left_out else {}),
                "to": _plain(route.to),
            }
            for route in planned.routes
        ],
    }
    return yaml.safe_dump(told, sort_keys=False, width=130)


def _plain(part: Part) -> dict[str, Any]:
    return part.model_dump(mode="json", exclude_defaults=True)


def main() -> None:
    """Write every file anew."""
    for case in cases():
        config, expected = halves(case)
        found = actual(config)
        if found != expected:
            case.write_text(f"{config}{LINE}{found}")
            print(f"golden: wrote {case.name}")


if __name__ == "__main__":
    main()
