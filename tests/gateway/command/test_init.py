from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gateway.cli import main
from gateway.command import OK, WRONG

ROOT = Path(__file__).parents[3]


def test_init_writes_a_starter_that_fits_and_never_over_a_file(tmp_path, capsys):
    path = tmp_path / "first.yaml"
    assert OK == main(["init", str(path)])
    assert OK == main(["check", str(path)])
    before = path.read_text()
    assert WRONG == main(["init", str(path)])
    assert before == path.read_text()
    assert WRONG == main(["init", str(tmp_path / "no/such/folder.yaml")])
    _, err = capsys.readouterr()
    assert "is there already; name another file" in err
    assert "No such file or directory" in err


def test_the_starter_needs_no_extra():
    code = (
        "import sys\nfrom gateway.cli import main\nmain(['check', 'gateway/starter.yaml'])\n"
        "print(sorted({'grpc', 'aiokafka'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.splitlines()[-1]
