"""The docs site: every page is in the navigation, every public name and command in the reference."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import palate
from palate.cli import app

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """The sources of the site, laid out as ``make docs`` does; building them is for ``make docs`` alone."""
    sys.path.insert(0, str(ROOT / "docs"))
    from stage import stage

    folder = tmp_path_factory.mktemp("site") / "docs"
    stage(folder)
    return folder


def test_every_page_is_in_the_navigation_once(staged):
    pages = [path.relative_to(staged).as_posix() for path in sorted(staged.rglob("*.md"))]
    listed = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(pages)


def test_links_lead_to_pages_and_code_stays_as_it_is(staged):
    index = (staged / "index.md").read_text()
    assert "](docs/" not in index
    assert "](concepts.md#the-packaged-catalogue-free-model)" in index
    assert "](index.md#try-it)" in (staged / "extending.md").read_text()
    for path in staged.rglob("*.md"):
        for target in re.findall(
            r"\]\((?!https?:|#)([^)#\s]+)", re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
        ):
            assert (path.parent / target).exists(), (path.name, target)


def test_the_reference_has_every_name_and_command(staged):
    python = (staged / "reference" / "python.md").read_text()
    assert {line.rpartition(".")[2] for line in python.splitlines() if line.startswith(":::")} == set(
        palate.__all__
    )
    commands = re.findall(
        r"^## palate (.+)$", (staged / "reference" / "commands.md").read_text(), re.MULTILINE
    )
    assert {one.split()[0] for one in commands} == set(typer.main.get_command(app).commands)
    assert "store load" in commands
    assert "shrinkage" in (staged / "reference" / "commands.md").read_text()


def test_a_link_that_leads_nowhere_ends_the_layout(tmp_path, staged, monkeypatch):
    import stage

    (tmp_path / "page.md").write_text("[there](nowhere.md)")
    monkeypatch.setattr(stage, "ROOT", tmp_path)
    with pytest.raises(AssertionError, match=r"nowhere\.md does not exist"):
        stage._linked(tmp_path / "page.md")


@pytest.mark.slow  # a quarter of a minute, and only where the extra docs is installed
def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs")
    subprocess.run([sys.executable, ROOT / "docs" / "stage.py", ROOT / "build" / "docs"], check=True)
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", tmp_path / "site"], cwd=ROOT, check=True
    )
    assert (tmp_path / "site" / "reference" / "python.html").is_file()
