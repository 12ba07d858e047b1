"""Candidates of several strategies, and ladders of selected ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from semscale.categories.candidates import candidate_ladder, candidate_pool
from semscale.categories.ladder_builder import LadderSpec, build_ladder
from semscale.categories.ladder_files import read_ladder
from semscale.common.errors import SemscaleError

CLASSES = ["dog", "sheep", "cross"]


def test_all_candidates_of_one_strategy_make_its_ladder() -> None:
    pool = candidate_pool("pets", CLASSES, "thing", ["templates-fixed"])
    ladder = candidate_ladder("pets", CLASSES, pool, "all")
    expected = build_ladder(LadderSpec("pets", CLASSES, "thing", "templates-fixed"))
    assert [step.categories for step in ladder.steps] == [step.categories for step in expected.steps]
    assert ladder.steps[1].categories["sheep"] == ("sheep",), "its plural is no other text"


def test_a_candidate_whose_texts_are_all_known_is_left_out() -> None:
    pool = candidate_pool("pets", CLASSES, "thing", ["templates", "templates-fixed"])
    assert len(candidate_pool("pets", CLASSES, "thing", ["templates"])) == 11
    # of the other strategy only the six positions with plurals differ, for sheep and cross
    assert [candidate.label for candidate in pool[11:]] == [f"{size}{{plural}}" for size in ("", *(
        "Large ", "Small ", "Medium ", "{domain} ", "Tiny ",
    ))]  # fmt: skip


def test_a_selected_set_round_trips_and_is_a_ladder_for_the_strategy_file(tmp_path: Path) -> None:
    pool = candidate_pool("pets", CLASSES, "thing", ["templates", "templates-fixed"])
    selected = [pool[0], pool[11], pool[3]]
    ladder = candidate_ladder("pets", CLASSES, selected, "optimized", ["a note"])
    assert ladder.steps[-1].categories["dog"] == ("dog", "dogs", "Small dog")
    assert ladder.steps[-1].categories["cross"] == ("cross", "crosss", "crosses", "Small cross")
    ladder.save(tmp_path / "chosen.json")
    assert read_ladder(tmp_path / "chosen.json") == ladder
    rebuilt = build_ladder(
        LadderSpec("pets", CLASSES, "thing", "file", len(ladder.steps), options={"path": tmp_path / "chosen.json"})
    )
    assert [step.categories for step in rebuilt.steps] == [step.categories for step in ladder.steps]


def test_no_candidates_is_the_class_names() -> None:
    ladder = candidate_ladder("pets", CLASSES, [], "optimized")
    assert [step.categories for step in ladder.steps] == [{name: (name,) for name in CLASSES}]


def test_texts_under_two_classes_of_different_strategies_are_refused() -> None:
    with pytest.raises(SemscaleError) as caught:
        candidate_pool("pets", ["dog", "dogs"], "pet", ["prompts", "templates"])
    assert "'dogs'" in str(caught.value)
    with pytest.raises(SemscaleError, match="unknown strategy"):
        candidate_pool("pets", CLASSES, "pet", ["template"])
