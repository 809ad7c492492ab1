"""Sample audits, by name, made once."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from browsing import chromium

from auditor.result import Audit

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"reports_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


NAMES = ("faulty", "tried", "healthy", "crashed", "hostile", "deep")


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    return _load("samples")


@pytest.fixture(scope="session")
def audits(samples: ModuleType) -> dict[str, Audit]:
    trials = _load("trial_samples")  # made of the parts of `samples`
    return {name: make() for name, make in {**samples.ALL, **trials.ALL}.items()}


@pytest.fixture(params=NAMES)
def audit(request: pytest.FixtureRequest, audits: dict[str, Audit]) -> Audit:
    """Each sample in turn."""
    return audits[request.param]


@pytest.fixture
def faulty(audits: dict[str, Audit]) -> Audit:
    return audits["faulty"]


@pytest.fixture
def tried(audits: dict[str, Audit]) -> Audit:
    return audits["tried"]


@pytest.fixture
def healthy(audits: dict[str, Audit]) -> Audit:
    return audits["healthy"]


@pytest.fixture
def crashed(audits: dict[str, Audit]) -> Audit:
    return audits["crashed"]


@pytest.fixture
def huge(audits: dict[str, Audit]) -> Audit:
    return audits["huge"]


@pytest.fixture
def hostile(audits: dict[str, Audit]) -> Audit:
    return audits["hostile"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started
