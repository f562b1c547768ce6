"""Every page: its links lead somewhere, the files that it names are there, its commands exit as it says; and nothing that is
kept in the repository names a machine's folder or an index.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.system.process import COMMAND, ROOT


def kept(*patterns: str) -> list[str]:
    """The files of the repository, new ones that are not yet committed included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


PAGES = kept("*.md")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(<?([^)\s>]+)>?\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# `gateway/pipeline.py`, `tests/contract/backend.py`: a file of ours, told by where it stands.
FILE = re.compile(r"`((?:gateway|adapters|tests|tools|config|protos|docs|benchmarks)/[\w./-]*[\w-]\.(?:py|yaml|md|proto|binpb))`")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
# In an indented line, in a sh block, or between backticks: `polygate check config/gateway.yaml`.
INVOKED = re.compile(r"(?:^(?: {4})?|`)(polygate (?:check|explain|routes|schema|version|init|run)\b[^`\n]*)", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = HEADING.findall(FENCED.sub("", page.read_text()))
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_somewhere(name: str) -> None:
    page = ROOT / name
    lost = []
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            lost.append(link)
    assert [] == lost


@pytest.mark.parametrize("name", [name for name in PAGES if name != "docs/write-an-adapter.md"])
def test_every_file_that_a_page_names_is_there(name: str) -> None:
    named = FILE.findall((ROOT / name).read_text())
    assert [] == [path for path in named if not (ROOT / path).exists()]


def commands() -> list[str]:
    """Every `polygate ...` of our pages that can be run as it stands, less what serves and what waits for a broker."""
    found = {
        found.partition("  ")[0].strip()
        for name in PAGES
        if name != "docs/write-an-adapter.md"
        for found in INVOKED.findall((ROOT / name).read_text())
    }
    return sorted(one for one in found if "..." not in one and "$" not in one and not one.startswith("polygate run"))


@pytest.mark.parametrize("command", commands())
def test_every_command_that_a_page_shows_works(command: str, tmp_path: Path) -> None:
    """`init` writes where it is run; a name of a file that nobody has is that of the one that `init` has written."""
    words = shlex.split(command, comments=True)
    if len(words) == 2:
        words.append("--help")  # it is only mentioned
    here = tmp_path if words[1] == "init" or "gateway.yaml" in words else ROOT
    if "gateway.yaml" in words and words[1] != "init":
        subprocess.run([COMMAND, "init", "gateway.yaml"], cwd=here, capture_output=True, check=True)
    done = subprocess.run(
        [COMMAND, *words[1:]],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"POLYGATE_VAR": str(tmp_path)},
    )
    assert 0 == done.returncode, done.stderr


def test_the_page_of_dependencies_has_every_one_of_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[<>=; ]", one)[0] for one in listed} - {"polygate"}
    page = (ROOT / "docs/decisions/0012-dependencies.md").read_text().lower()
    assert set() == {name for name in names if name not in page}


# Put together here, so that this file does not hold what it looks for.
MACHINE = re.compile("|".join((r"/(?:home|Users)/[a-z]\w*/", r"(?<![\w.])/" + "work/", r"(?<![\w.])/" + "root/")))
INDEX = re.compile("|".join((r"index-url[ =]+\w*:" + "//", "https?://[^ \"'`]*/" + r"simple\b")))


def test_nothing_that_is_kept_names_a_machine_or_an_index() -> None:
    found = []
    for name in kept():
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name}: {match[0]}" for pattern in (MACHINE, INDEX) for match in pattern.finditer(text)]
    assert [] == found
