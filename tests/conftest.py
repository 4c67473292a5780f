"""Options of the suite, and what holds after every test."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `helpers`, whatever the import mode

STRESS = "SHMIPC_STRESS"
FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "stress: long; only with `-m stress` or SHMIPC_STRESS=1 in the environment"
    )
    if config.option.markexpr == "stress":
        os.environ[STRESS] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    stress = os.environ.get(STRESS) == "1"
    if config.pluginmanager.hasplugin("timeout"):
        for item in items:
            item.add_marker(pytest.mark.timeout(7200 if stress else 600, method="thread"))
    if stress:
        return
    long = [item for item in items if item.get_closest_marker("stress")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what pytest has made need not be looked through after every test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    from isolation import nothing_left

    try:
        with nothing_left():
            yield
    except AssertionError:
        if not request.node.stash[FAILED]:  # else the traceback keeps objects alive
            raise


@pytest.fixture
def name() -> str:
    """A plain name that nobody uses."""
    from helpers import unique_name

    return unique_name()
