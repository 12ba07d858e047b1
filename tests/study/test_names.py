"""Names from data: others give other files, keys and runs, and none is refused."""

from __future__ import annotations

import pytest

from semscale.config import study_from
from semscale.datasets.build import dataset_name
from semscale.errors import SemscaleError
from semscale.study.arms import make_arms
from semscale.text import slug


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("照片", "图画"),
        ("a/b", "a b"),
        ("A::/x/w.pt", "A::/x-w.pt"),
        ("ViT-L-14::336-x", "ViT-L-14-336::x"),
        ("\u00e9", "e\u0301"),
        ("x" * 300, "x" * 301),
        (".", ".."),
        ("a", "a_"),
        ("(a)", "a"),
    ],
)
def test_other_names_give_other_file_names(one: str, other: str) -> None:
    names = [slug("digits", name, "templates", 0) for name in (one, other)]
    assert len(set(names)) == 2
    assert all(len(name.encode()) < 100 and name.count("__") == 3 and "/" not in name for name in names)
    assert slug("a__b", "c") != slug("a", "b__c")


def test_ordinary_names_stay_and_letters_of_all_scripts() -> None:
    models = "ViT-B-32::laion2b_s34b_b79k", "hf-hub:laion/CLIP-ViT-B-32", "semscale-mini"
    assert slug(*models, 12, "top-3-mean") == (
        "ViT-B-32-laion2b_s34b_b79k__hf-hub-laion-CLIP-ViT-B-32__semscale-mini__12__top-3-mean"
    )
    assert slug("照片", "फूल") == "照片__फूल"
    names = "花と鳥", "my_photos", "Pets (2012)"
    assert [dataset_name(name) for name in names] == ["花と鳥", "my-photos", "Pets-2012"]


def test_a_strategy_with_the_name_of_a_control_is_refused() -> None:
    names = "duplicates", "duplicates-of-duplicates"
    strategies = [{"strategy": "templates", "name": name} for name in names]
    tree = {"datasets": ["digits"], "strategies": strategies, "controls": ["duplicates"], "steps": 2, "limit": 20}
    with pytest.raises(SemscaleError, match="the name of another one's control"):
        make_arms(study_from(tree))
