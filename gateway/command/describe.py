"""`polygate openapi`, `polygate asyncapi` and `polygate schema`: what is served, and what a config may say, for programs."""

from __future__ import annotations

import argparse

from gateway.command import OK, say_json
from gateway.description import NOT_YET, servers, sockets
from gateway.description.asyncapi import asyncapi
from gateway.description.openapi import openapi
from gateway.document import schema
from gateway.plan import plan


def show_openapi(options: argparse.Namespace) -> int:
    """Print what the REST listeners serve, as OpenAPI 3.1."""
    planned = plan(options.config)
    say_json(openapi(planned, options.server or servers(planned, NOT_YET)))
    return OK


def show_asyncapi(options: argparse.Namespace) -> int:
    """Print the WebSockets and topics, as AsyncAPI 3.0."""
    planned = plan(options.config)
    say_json(asyncapi(planned, sockets(planned, NOT_YET)))
    return OK


def show_schema(options: argparse.Namespace) -> int:
    """Print the JSON schema of config files, for editors."""
    del options
    say_json(schema())
    return OK
