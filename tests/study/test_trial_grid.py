"""Failing trials: one message, and no retry of permanent errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semscale.categories.ladder_builder import LadderSpec, build_ladder
from semscale.common.errors import SemscaleError
from semscale.study.scoring_stage import ScoredLadder
from semscale.study.trial_grid import run_grid


@pytest.mark.usefixtures("ray_session")
def test_a_trial_that_fails_for_good_is_one_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ladder = build_ladder(LadderSpec("pets", ["cat", "dog"], "animal", "templates", steps=3))
    scores: Any = None  # no metric can be computed
    true_class = np.zeros(1, dtype=np.int32)
    scored = ScoredLadder("m", "max", ladder, ladder.flatten(), ["a.png"], true_class, scores, None, None)
    with pytest.raises(SemscaleError) as caught:
        run_grid([scored], {(scored.key, k): True for k in range(3)}, tmp_path, print)
    assert caught.value.what == "a trial failed"
    assert caught.value.where == "dataset pets / strategy templates / order 0 / aggregation max / scale 1"
    assert caught.value.found == "AttributeError: 'NoneType' object has no attribute 'true_rank'"
    assert "Traceback" not in "".join(capfd.readouterr())
