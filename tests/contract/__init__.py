"""Contract suites, one a port: every implementation runs them."""

import pytest

pytest.register_assert_rewrite("tests.contract.backend", "tests.contract.policy")
