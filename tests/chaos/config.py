"""The config of the gateways that are broken: a route for each way to acknowledge, all to one topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.system.process import ROOT

PARTITIONS = 3
DEADLINE_S = 2
LISTENERS = {"public": "rest", "rpc": "grpc", "live": "websocket", "admin": "admin"}
ACKS = {
    "broker": "",
    "stored": ", ack: stored",
    "fallback": ", when_down: store",
    "none": ", ack: none",
    # Longer than any step of a clock: it is the wall clock that windows go by.
    "once": ", idempotency: {window: 86400}",
    "through": "",
}
"""What the target of each mode says beside its topic. Records of `through` come to it by another topic, which is consumed."""
ONWARD = """
  - name: onward
    when: {{topic: {topic}.in}}
    to: {{backend: log, publish: {topic}, key: "{{customer}}"}}"""
FEED = """
  - name: feed
    when: {{rest: GET /feed, websocket: /feed, grpc: shop.v1.Orders/Watch}}
    to: {{backend: log, tail: {topic}}}"""


def local(files: Path, topic: str) -> str:
    """The embedded log."""
    topics = ", ".join(f"{name}: {{partitions: {PARTITIONS}}}" for name in (topic, f"{topic}.in"))
    return f"{{kind: local, path: {files}/log.db, topics: {{{topics}}}}}"


def kafka(bootstrap: str, copies: int) -> str:
    """A broker, or several: every record on so many."""
    return f'{{kind: kafka, bootstrap: "{bootstrap}", create: {{partitions: {PARTITIONS}, replication: {copies}}}}}'


def config(
    files: Path, backend: str, topic: str, modes: Sequence[str], addresses: Mapping[str, str], *, shared: bool, workers: int
) -> str:
    """A whole file. `shared`: two gateways may have the gRPC port at a time."""
    listeners = "".join(
        f'  {name}: {{kind: {kind}, bind: "{addresses[name]}"{", reuse_port: true" if shared and kind == "grpc" else ""}}}\n'
        for name, kind in LISTENERS.items()
    )
    if "through" in modes:
        listeners += f"  onward: {{kind: topic, backend: log, topics: [{topic}.in], group: onward.{topic}}}\n"
    state = f"path: {files}/state.db" if workers == 1 else f"backend: log, topic: {topic}.state"
    routes = "".join(_route(mode, topic) for mode in modes) + (ONWARD.format(topic=topic) if "through" in modes else "")
    return (
        f"workers: {workers}\ncontracts: [{ROOT}/protos/shop.binpb]\nlisteners:\n{listeners}backends:\n  log: {backend}\n"
        f"policies: [{{kind: deadline, seconds: {DEADLINE_S}}}, {{kind: observe, log: none}}]\n"
        f"state: {{{state}}}\nspool: {{path: {files}/spool.db}}\nroutes:{routes}{FEED.format(topic=topic)}\n"
    )


def _route(mode: str, topic: str) -> str:
    calls = f'rest: "POST /{mode}/{{customer}}", websocket: /{mode}'
    if mode == "broker":
        calls += ", grpc: shop.v1.Orders/Place"
    target = f'publish: {topic}{".in" * (mode == "through")}, key: "{{customer}}"{ACKS[mode]}'
    return f"\n  - name: {mode}\n    when: {{{calls}}}\n    to: {{backend: log, {target}}}"
