"""A config that fits, as small as one can be with a route of two calls."""

from __future__ import annotations

GOOD = """
listeners: {public: {kind: rest, bind: "127.0.0.1:0"}}
backends: {stub: {kind: stub, answers: {hello: {body: hello}}}}
routes: [{name: hello, when: {rest: [GET /hello, GET /hi], }, to: {backend: stub, call: hello}}]
"""
