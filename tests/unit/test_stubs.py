"""The binding's stub says what the binding has, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

from shmipc._native import binding

STUB = Path(binding.__file__).with_name("binding.pyi")
if not STUB.exists():  # an editable install: the extension lies elsewhere
    STUB = Path(__file__).parents[2] / "shmipc" / "_native" / "binding.pyi"

ONLY_THERE = {"Buffer", "_T"}


def names(body: list[ast.stmt]) -> set[str]:
    found = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def public(found: set[str]) -> set[str]:
    return {name for name in found if not name.startswith("__")}


def test_every_name_of_the_stub_exists() -> None:
    tree = ast.parse(STUB.read_text())
    assert {name for name in names(tree.body) - ONLY_THERE if not hasattr(binding, name)} == set()


def test_every_method_of_a_class_is_in_the_stub_and_the_other_way() -> None:
    tree = ast.parse(STUB.read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name in classes.keys() - ONLY_THERE:
        cls = getattr(binding, name)
        stubbed = public(names(classes[name].body))
        inherited = {key for base in cls.__mro__[1:] for key in vars(base)}
        assert stubbed - set(dir(cls)) == set(), name
        assert public(set(vars(cls))) - stubbed - inherited == set(), name


def test_every_function_and_class_is_in_the_stub() -> None:
    stubbed = names(ast.parse(STUB.read_text()).body)
    defined = {
        name
        for name, value in vars(binding).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == binding.__name__
    }
    assert defined - stubbed == set()
