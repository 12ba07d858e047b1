"""Fixtures: one MLflow database for all tests, since creating it takes seconds; an experiment per test."""

from __future__ import annotations

from pathlib import Path

import pytest

from semscale.tracking.tracking_store import TrackingStore, open_store


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture
def store(folder: Path, request: pytest.FixtureRequest) -> TrackingStore:
    return open_store(None, request.node.name, folder)
