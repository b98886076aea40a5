import pytest


@pytest.fixture(autouse=True)
def few_threads(one_thread: None) -> None:
    """Every model here is small."""
