from __future__ import annotations

import subprocess
import sys

from gateway import __version__


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "gateway", "version"], capture_output=True, text=True, check=True)
    assert f"polygate {__version__}\n" == done.stdout
    assert 2 == subprocess.run([sys.executable, "-m", "gateway", "nothing"], capture_output=True, check=False).returncode
