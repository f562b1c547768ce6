from __future__ import annotations

import pytest

from adapters.contract.descriptors import Config
from gateway.contract import ContractError


def test_a_descriptor_set_is_read_as_it_is(tmp_path):
    (tmp_path / "shop.binpb").write_bytes(b"\x0a\x00")
    assert b"\x0a\x00" == Config(descriptors="shop.binpb").read(tmp_path, {})


def test_one_that_is_not_there_is_told_with_where_it_is_looked_for(tmp_path):
    with pytest.raises(ContractError, match=r"shop.binpb cannot be read .no such file or directory.; it is looked for beside"):
        Config(descriptors="shop.binpb").read(tmp_path, {})
