"""The package follows docs/architecture.md: layers, imports, and unique names."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "palate"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
LAYERS = re.findall(r"^\| \w+ \| `([\w.]+)` \|", ARCHITECTURE, re.MULTILINE)
"""Packages and modules from the lowest up: each imports those before it."""
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
ACROSS = {"faults", "benchmarks", "data/tabular/differential"}
"""Tests of no folder of the package: faults of whole commands, the benchmarks, an oracle for all of data/tabular."""
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
ELSEWHERE = {"models/llama.py", "models/qwen2.py", "models/gemma3.py"}
"""Files of vLLM."""


def package_of(module):
    name = module.split(".")[1] if "." in module else "__init__"
    return name if name in LAYERS else f"{name}.py"


def imported(tree):
    """The modules of palate that code imports when it runs, be it inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "palate":
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else node.module for name in whole)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "palate")
        yield from imported(node)


def test_the_table_names_every_package_and_every_module_at_the_top_level():
    there = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py"}
    there |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(LAYERS) == there - {"__init__.py"}
    assert len(LAYERS) == len(set(LAYERS))


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_none_further_down(package):
    allowed = {"__init__.py", *LAYERS[: LAYERS.index(package) + 1]}
    for module, path in MODULES.items():
        if package_of(module) == package:
            wrong = {
                name for name in imported(ast.parse(path.read_text())) if package_of(name) not in allowed
            }
            assert not wrong, f"{module} imports {', '.join(sorted(wrong))}"


def test_a_class_or_public_function_has_a_name_of_its_own():
    defined = defaultdict(list)
    for module, path in MODULES.items():
        if (
            package_of(module) == "cli" or "migrations" in module
        ):  # named as commands are, and as Alembic asks
            continue
        for node in ast.parse(path.read_text()).body:
            alias = isinstance(node, ast.AnnAssign) and "TypeAlias" in ast.unparse(node.annotation)
            name = node.target.id if alias else getattr(node, "name", "_")
            if not name.startswith("_"):
                defined[name].append(module)
    assert not {name: modules for name, modules in defined.items() if len(modules) > 1}


def test_folders_of_tests_are_those_of_the_package():
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")} - {"."}
    assert not {name for name in folders - ACROSS if not (PACKAGE / name / "__init__.py").is_file()}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_public_names_exist(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    _, _, public = docstring.partition("Public names: ")
    for name in re.findall(r"``([\w.]+)``", public):
        module, _, wanted = name.rpartition(".")
        source = path.parent / f"{module}.py" if module else path
        found = {getattr(node, "name", None) for node in ast.parse(source.read_text()).body}
        found |= {
            target.id for target in ast.walk(ast.parse(source.read_text())) if isinstance(target, ast.Name)
        }
        assert wanted in found, name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_that_documents_name_exist(path):
    named = set(re.findall(r"(?<![\w/])[\w.-]+(?:/[\w.-]+)*/[\w-]+\.py\b", path.read_text()))
    assert not {
        name for name in named - ELSEWHERE if not any((at / name).is_file() for at in (PACKAGE, ROOT))
    }


def test_no_two_test_files_have_one_name():
    """Without packages among the tests, pytest would collect the first alone."""
    files = defaultdict(list)
    for path in (ROOT / "tests").rglob("*.py"):
        if path.stem not in ("__init__", "conftest"):
            files[path.name].append(path.relative_to(ROOT))
    assert not [paths for paths in files.values() if len(paths) > 1]
