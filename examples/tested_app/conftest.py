import pytest
from chat_app import create_app

pytest_plugins = ["doorward.testing.pytest_plugin"]


@pytest.fixture
def door_app():
    return create_app()
