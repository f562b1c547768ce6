from __future__ import annotations

import asyncio

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from adapters.backend.grpc import Config as Backend
from adapters.backend.stub import Config as Stub
from adapters.contract.reflection import Config
from gateway.contract import ContractError
from gateway.plan import plan
from gateway.server import Gateway
from tests.adapters.grpc.test_reflection import V1, V1ALPHA, files, serving, telling


def told(config: Config, folder, backends=None) -> set[str]:
    return {file.name for file in FileDescriptorSet.FromString(config.read(folder, backends or {})).file}


def problem(config: Config, folder, **backends) -> str:
    with pytest.raises(ContractError) as caught:
        config.read(folder, backends)
    (text,) = caught.value.problems
    return text


def address(channel) -> str:
    target: bytes = channel._channel.target()
    return target.decode().removeprefix("dns:///").removeprefix("ipv4:")


def test_a_backend_of_the_file_is_asked(tmp_path):
    with serving(telling(files("leaf")), V1) as channel:
        backend = Backend(kind="grpc", address=address(channel))
        assert {"leaf.proto"} == told(Config(reflection="stock"), tmp_path, {"stock": backend})


async def test_a_gateway_serves_what_its_backend_tells_of_itself(tmp_path):
    with serving(telling(files("leaf", "cup")), V1ALPHA) as channel:
        config = tmp_path / "gateway.yaml"
        config.write_text(f"""
contracts: [{{reflection: kettle}}]
listeners: {{rpc: {{kind: grpc, bind: "127.0.0.1:0"}}}}
backends: {{kettle: {{kind: grpc, address: "{address(channel)}"}}}}
services: {{tea.Kettle: {{to: {{backend: kettle}}}}}}
""")
        planned = plan(config, {})
        # The gateway tells the same on, by both versions: another one may stand before it.
        async with Gateway(planned) as gateway:
            told_on = await asyncio.to_thread(told, Config(reflection=str(gateway.addresses["rpc"])), tmp_path)
    assert {"leaf.proto", "cup.proto"} == told_on
    assert ["tea.Kettle.Boil"] == [route.name for route in planned.routes]


def test_an_address_is_asked(tmp_path):
    with serving(telling(files("leaf")), V1) as channel:
        assert {"leaf.proto"} == told(Config(reflection=address(channel)), tmp_path)


def test_a_backend_that_is_away_is_told_by_its_name(tmp_path):
    away = Backend(kind="grpc", address="127.0.0.1:1")
    assert "stock cannot be reached to be asked for its contracts" == problem(Config(reflection="stock"), tmp_path, stock=away)


def test_a_backend_that_is_no_grpc_has_no_reflection(tmp_path):
    stub = Stub(kind="stub", answers={})
    text = problem(Config(reflection="stock"), tmp_path, stock=stub)
    assert "the backend stock is stub, and only grpc has reflection" == text


def test_a_name_that_is_no_backend_is_told_with_the_nearest(tmp_path):
    stock = Backend(kind="grpc", address="127.0.0.1:1")
    text = problem(Config(reflection="stok"), tmp_path, stock=stock)
    assert "there is no grpc backend 'stok'; did you mean \"stock\"?; an address has a port" == text
