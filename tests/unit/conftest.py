"""Run the longest files first: each core runs a file at a time, and a long one at the end would delay the run."""

import pytest

LONGEST_FILES = ("test_training.py", "test_docs.py", "test_guard.py", "test_engine_upgrade.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(
        key=lambda item: (
            LONGEST_FILES.index(item.path.name) if item.path.name in LONGEST_FILES else len(LONGEST_FILES)
        )
    )
