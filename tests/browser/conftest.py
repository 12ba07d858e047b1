"""Pictures for the README come out of the browser tests: pytest -m browser tests/browser --pictures .github"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page


@pytest.fixture(scope="session")
def full_pictures(request: pytest.FixtureRequest) -> bool:
    """Whether the whole quickstart study is shown, for the README, or a small one that tests as much."""
    return request.config.getoption("--pictures") is not None


@pytest.fixture(scope="session")
def take_picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Save what the browser shows, when asked for with --pictures DIR."""
    folder = request.config.getoption("--pictures")

    def take(page: Page, name: str) -> None:
        if folder is None:
            return
        # MLflow's assistant takes a quarter of the window
        close = page.get_by_role("button", name="Close").filter(visible=True)
        if close.count():
            close.first.click()
        page.wait_for_timeout(1500)  # charts glide into place
        Path(folder).mkdir(parents=True, exist_ok=True)
        shot = Image.open(io.BytesIO(page.screenshot()))
        # 256 colours are enough for a page, and a third of the bytes
        few = shot.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(Path(folder) / name, optimize=True)

    return take
