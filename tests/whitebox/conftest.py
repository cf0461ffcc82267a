"""The white-box extension, built once per session."""

from types import ModuleType

import pytest
from whitebox.build import build


@pytest.fixture(scope="session")
def whitebox() -> ModuleType:
    return build()
