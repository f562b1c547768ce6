"""The wheel, without any extra: what `pip install polygate` runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Found before anything else: what an extra would bring is not installed.
WITHOUT_EXTRAS = """
import sys


class Absent:
    names = {"grpc", "grpc_health", "grpc_reflection", "aiokafka", "uvloop", "cramjam"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel unpacked, and nothing of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", site, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    (site / "sitecustomize.py").write_text(WITHOUT_EXTRAS)
    return site


@pytest.fixture
def polygate(installed, tmp_path):
    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "import sys; from gateway.cli import main; sys.exit(main())", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed), "KAFKA_BOOTSTRAP": "kafka:9092"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_it_writes_a_starter_and_the_starter_fits(polygate):
    assert 0 == polygate("init").returncode
    done = polygate("check", "--connect", "gateway.yaml")
    assert (0, "") == (done.returncode, done.stderr)


def test_a_kind_that_needs_an_extra_says_which(polygate):
    done = polygate("check", ROOT / "config/examples/kafka.yaml")
    assert 1 == done.returncode
    assert "listeners.rpc.kind: grpc needs grpc, which is not installed; pip install 'polygate[grpc]'" in done.stderr
    assert "backends.events.kind: kafka needs aiokafka, which is not installed; pip install 'polygate[kafka]'" in done.stderr


def test_the_schema_has_the_kinds_that_can_run(polygate):
    done = polygate("schema")
    assert 0 == done.returncode
    assert '"listener.rest"' in done.stdout
    assert '"listener.grpc"' not in done.stdout


def test_the_page_and_its_viewer_are_in_it_with_their_licence(installed):
    folder = installed / "adapters/ingress/admin"
    names = {path.name for path in (*folder.iterdir(), *(folder / "viewer").iterdir())}
    assert {"page.html", "page.js", "page.css", "swagger-ui-bundle.js.gz", "swagger-ui.css.gz", "LICENSE", "NOTICE"} <= names
