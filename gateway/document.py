"""The config's JSON schema, generated from the models that validate it."""

from __future__ import annotations

from typing import Any

from gateway.config import FileConfig


def schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of config files, with the fields of every kind that is installed."""
    return FileConfig.model_json_schema()
