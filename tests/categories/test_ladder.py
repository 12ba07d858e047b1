"""Ladders: nesting, orders, scales, flattening and refusals."""

from __future__ import annotations

from itertools import pairwise

import pytest

from semscale.categories import Category, Ladder, LadderSpec, build_ladder, strategy, strategy_registry
from semscale.categories.arrangement import permutation
from semscale.common.errors import SemscaleError


def build(classes: list[str], strategy: str = "templates", order: int = 0, **options: object) -> Ladder:
    return build_ladder(LadderSpec("demo", classes, "thing", strategy, **options), order)  # type: ignore[arg-type]


@pytest.fixture
def own_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy_registry.strategy_names()  # discover before the copy is made
    monkeypatch.setattr(strategy_registry, "_strategies", dict(strategy_registry._strategies))


def test_every_step_adds_one_template_to_every_class_and_keeps_the_rest() -> None:
    ladder = build(["cat", "dog", "cross"])
    assert ladder.scales == list(range(1, 13))
    assert [step.n_categories for step in ladder.steps] == [3 * scale for scale in range(1, 13)]
    assert ladder.steps[0].categories == {"cat": ("cat",), "dog": ("dog",), "cross": ("cross",)}
    for before, step in pairwise(ladder.steps):
        for name in ladder.classes:
            assert step.categories[name][:-1] == before.categories[name]
    assert ladder.provenance["cross"][:3] == ("{c}", "{c}s", "Large {c}")


def test_flattening_sorts_by_step_then_class_then_position() -> None:
    flat = build(["cat", "dog"], steps=4, scales="exponential").flatten()
    assert flat.texts == [
        *["cat", "dog"],
        *["cats", "dogs"],
        *["Large cat", "Large cats", "Large dog", "Large dogs"],
        *[
            "Small cat",
            "Small cats",
            "Medium cat",
            "Medium cats",
            "Small dog",
            "Small dogs",
            "Medium dog",
            "Medium dogs",
        ],
    ]
    assert flat.class_index.tolist() == [0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert flat.class_index.dtype == "int32"
    assert flat.step_ends.tolist() == [2, 4, 8, 16]
    assert flat.step_ends.dtype == "int64"
    assert flat.scales == [1, 2, 4, 8]


def test_exponential_scales_end_at_the_available_categories() -> None:
    assert build(["cat", "dog"], scales="exponential").scales == [1, 2, 4, 8]
    assert build(["cat", "dog"], steps=2, scales="exponential").scales == [1, 2]


def test_an_order_is_the_same_permutation_for_all_classes() -> None:
    published, first, second = (build(["cat", "dog"], order=order) for order in range(3))
    assert first.steps[0] == published.steps[0]
    last = {order: ladder.steps[-1].categories for order, ladder in enumerate((published, first, second))}
    for order in (1, 2):
        assert sorted(last[order]["cat"]) == sorted(last[0]["cat"])
        assert [text.replace("cat", "dog") for text in last[order]["cat"]] == list(last[order]["dog"])
    assert len({tuple(categories["cat"]) for categories in last.values()}) == 3
    assert build(["cat", "dog"], order=1) == first
    assert len({published.digest, first.digest, second.digest}) == 3


def test_permutations_are_stable_when_a_strategy_grows() -> None:
    longer = permutation(20, order=3)
    assert [position for position in longer if position < 12] == permutation(12, order=3)


def test_a_plural_that_is_the_singular_leaves_its_position_empty() -> None:
    ladder = build(["sheep", "wolf"], strategy="templates-fixed", steps=4)
    assert ladder.steps[3].categories["sheep"] == ("sheep", "Large sheep")
    assert ladder.steps[3].categories["wolf"] == ("wolf", "wolves", "Large wolf", "Large wolves")
    assert [step.n_categories for step in ladder.steps] == [2, 3, 5, 6]
    assert [step.short_classes for step in ladder.steps] == [(), ("sheep",), ("sheep",), ("sheep",)]
    assert ladder.provenance["sheep"] == ("{c}", "Large {c}")


def test_a_position_that_all_classes_leave_empty_is_no_step() -> None:
    ladder = build(["shorts", "jeans"], strategy="templates-fixed", steps=6)
    assert [step.n_categories for step in ladder.steps] == [2, 4, 6, 8, 10, 12]
    with pytest.raises(SemscaleError, match="more steps") as caught:
        build(["shorts", "jeans"], strategy="templates-fixed", steps=12)
    assert caught.value.expected == "at most 6"


def test_a_text_under_two_classes_is_refused_with_both_names() -> None:
    with pytest.raises(SemscaleError, match="two classes") as caught:
        build(["dog", "large_DOG"])
    assert "'Large dog'" in str(caught.value) or "'large_DOG'" in str(caught.value)
    assert "'dog'" in str(caught.value.found)
    assert "'large_DOG'" in str(caught.value.found)
    # with the class names alone there is no conflict yet
    assert build(["dog", "large_DOG"], steps=1).steps[0].n_categories == 2


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (["dog"], {}, "at least two classes"),
        ([], {}, "at least two classes"),
        (["dog", "Dog "], {}, "same name"),
        (["dog", " _ "], {}, "name is empty"),
        (["dog", "cat"], {"steps": 0}, "at least one step"),
        (["dog", "cat"], {"steps": 13}, "more steps"),
        (["dog", "cat"], {"order": -1}, "order"),
        (["dog", "cat"], {"scales": "cubic"}, "unknown scales"),
        (["dog", "cat"], {"strategy": "nothing-of-the-kind"}, "unknown strategy"),
    ],
)
def test_invalid_specifications_are_refused(classes: list[str], options: dict[str, object], message: str) -> None:
    with pytest.raises(SemscaleError, match=message):
        build(classes, **options)


def test_the_error_of_too_many_steps_says_how_many_exist() -> None:
    with pytest.raises(SemscaleError) as caught:
        build(["dog", "cat"], steps=20)
    assert caught.value.expected == "at most 12"


@pytest.mark.usefixtures("own_strategies")
def test_an_empty_text_of_a_strategy_is_refused() -> None:
    strategy("blank")(lambda name, domain: [Category(name, "{c}"), Category(" ", "blank")])
    assert build(["dog", "cat"], strategy="blank", steps=1).scales == [1]
    with pytest.raises(SemscaleError, match="category is empty"):
        build(["dog", "cat"], strategy="blank", steps=2)


@pytest.mark.usefixtures("own_strategies")
def test_the_class_with_the_fewest_equivalents_limits_the_steps() -> None:
    strategy("letters")(lambda name, domain: [Category(name[:end], "") for end in range(len(name), 0, -1)])
    ladder = build(["cat", "zebra"], strategy="letters", steps=3)
    assert ladder.steps[-1].categories == {"cat": ("cat", "ca", "c"), "zebra": ("zebra", "zebr", "zeb")}
    with pytest.raises(SemscaleError, match="more steps") as caught:
        build(["cat", "zebra"], strategy="letters", steps=4)
    assert caught.value.expected == "at most 3"
