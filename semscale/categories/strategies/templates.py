"""Template strategies: the founding study's two families (arXiv 2503.12617), photo prompts, and custom templates."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence

from semscale.categories.plurals import plural
from semscale.categories.strategy_registry import (
    TEXTS,
    Category,
    StrategyContext,
    context_strategy,
    read_option,
    strategy,
)
from semscale.common.errors import CategoryError

FIELDS = ("c", "C", "cs", "domain")
"""{c} is the class name, {C} the same capitalised, {cs} its plural; doubled braces are literal."""


def check_template(template: str, where: str) -> None:
    """Raise CategoryError for a template with other fields than :data:`FIELDS`, or without the class name."""
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise CategoryError("invalid template", where=where, found=repr(template), hint=str(error)) from None
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    for _, field, spec, conversion in parts:
        if field not in FIELDS or spec or conversion:
            found = f"{{{field}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}}} in {template!r}"
            raise CategoryError("unknown field in a template", where=where, found=found, expected=known)
    if not {"c", "C", "cs"} & {field for _, field, _, _ in parts}:
        what = "a template does not name the class, so all classes would have the same text"
        raise CategoryError(what, where=where, found=repr(template), expected="{c}, {C} or {cs} in it")


def fill_templates(class_name: str, domain: str, templates: Sequence[str], where: str) -> Iterator[Category]:
    """Yield the class name, then each template filled in; the provenance is the template.

    The class name is that of the dataset, underscores included, so that the categories differ from it by the template
    only.

    >>> categories = fill_templates("fire truck", "vehicle", ["{C}, a {domain}", "photo of {cs}"], "demo")
    >>> [category.text for category in categories]
    ['fire truck', 'Fire truck, a vehicle', 'photo of fire trucks']
    """
    yield Category(class_name, "{c}")
    for template in templates:
        check_template(template, where)
        if "{domain}" in template and not domain.strip():
            what, found = "a template needs the domain of the dataset", f"domain {domain!r} for {template!r}"
            raise CategoryError(what, where=where, found=found, hint="give the dataset a domain")
        values = {"c": class_name, "C": class_name[:1].upper() + class_name[1:], "domain": domain.strip()}
        if "{cs}" in template:
            values["cs"] = plural(class_name)
        yield Category(template.format(**values), template)


_PREFIXES = ("", "Large ", "Small ", "Medium ", "{domain} ", "Tiny ")
"""Prefixes of the class name, in published order; each is followed by the name, then by its plural."""


def _published(class_name: str, domain: str, plural_field: str, where: str) -> list[Category]:
    templates = [prefix + name for prefix in _PREFIXES for name in ("{c}", plural_field)]
    # the domain word begins with a capital, as published
    return list(fill_templates(class_name, domain.strip()[:1].upper() + domain.strip()[1:], templates[1:], where))


@strategy("templates")
def templates(class_name: str, domain: str) -> Sequence[Category]:
    """C, Cs, Large C, Large Cs, Small, Medium, domain word, Tiny: as published, with naive plurals.

    The plural is always the name plus "s" ("cross" gives "crosss"), as published.

    >>> [category.text for category in templates("cross", "shape")][6:10]
    ['Medium cross', 'Medium crosss', 'Shape cross', 'Shape crosss']
    """
    return _published(class_name, domain, "{c}s", "strategy templates")


@strategy("templates-fixed")
def templates_fixed(class_name: str, domain: str) -> Sequence[Category]:
    """The published templates with correct plurals (crosses, mice; shorts and scissors are unchanged).

    Where plural and singular are the same text (sheep), the list has it twice; a ladder drops the repetition and leaves
    its position empty, so that a position still means the same template in every class.

    >>> [category.text for category in templates_fixed("wolf", "animal")][:4]
    ['wolf', 'wolves', 'Large wolf', 'Large wolves']
    """
    categories = _published(class_name, domain, "{cs}", "strategy templates-fixed")
    return [Category(category.text, category.provenance.replace("{cs}", "{plural}")) for category in categories]


DEFAULT_TEMPLATES = (
    "Image of {c}",
    "Picture of {c}",
    "{cs}",
    "Cool {c}",
    "Pretty {c}",
    "Detailed {c}",
    "Image of pretty {c}",
    "Picture of pretty {cs}",
    "Image of {cs}",
)
"""The published list for flowers and fruits, used for every domain without a list in `BY_DOMAIN`."""

BY_DOMAIN: dict[str, tuple[str, ...]] = {
    "food": (
        "Image of {c}",
        "Picture of {c}",
        "{cs}",
        "Appetizing {c}",
        "Cool {c}",
        "Food {c}",
        "Fresh {c}",
        "Picture of {cs}",
        "Delicious {c}",
    ),
    "sport": (
        "Image of {c}",
        "Picture of {c}",
        "{cs}",
        "Picture of the {cs}",
        "Image of {cs}",
        "Cool {c}",
    ),
    "vehicle": (
        "image of {c}",
        "picture of {c}",
        "{cs}",
        "cool {c}",
        "classic {c}",
        "detailed {c}",
        "reliable {c}",
        "moving {c}",
        "functional {c}",
    ),
    "weather": (
        "Image of {c}",
        "Picture of {c}",
        "Weather {c}",
        "Cool {c}",
        "Detailed {c}",
        "Pretty {c}",
    ),
}
"""The published lists for these domains, in their order and case."""

_IRREGULAR = {("fries", "{cs}"): "French Fries", ("hovercraft", "{cs}"): "hovercrafts"}
"""Published texts that differ from their template."""


@strategy("image-picture")
def image_picture(class_name: str, domain: str) -> Sequence[Category]:
    """C, Image of C, Picture of C, Cs, Cool C ...: the study's second family, by domain as published.

    Food, sports, vehicles and weather have separate lists, all other domains that of flowers and fruits. Plurals are
    correct in this family, as published. The lists of Animal4 and Vehicle7, which its authors wrote by hand for each
    class ("Tusker Elephant", "Mountain Bike"), are not reproduced.

    >>> [category.text for category in image_picture("bus", "vehicle")][:5]
    ['bus', 'image of bus', 'picture of bus', 'buses', 'cool bus']
    """
    word = domain.strip().casefold()
    templates = BY_DOMAIN.get(word) or BY_DOMAIN.get(_singular(word)) or DEFAULT_TEMPLATES
    return [
        Category(_IRREGULAR.get((class_name.casefold(), category.provenance), category.text), category.provenance)
        for category in fill_templates(class_name, domain, templates, "strategy image-picture")
    ]


def _singular(word: str) -> str:
    return next((known for known in BY_DOMAIN if plural(known) == word), word)


PROMPTS = (
    "a photo of a {c}",
    "a photo of several {cs}",
    "a sharp photo of a {c}",
    "a blurred photo of a {c}",
    "a close-up of a {c}",
    "a {c} seen from far away",
    "a bright photo of a {c}",
    "a dim photo of a {c}",
    "a {c} in daylight",
    "a {c} at night",
    "a black-and-white photo of a {c}",
    "a colourful picture of a {c}",
    "a small picture of a {c}",
    "a large picture of a {c}",
    "a {c} in the middle of the picture",
    "a photo with a {c} in the background",
    "a cropped picture of a {c}",
    "a snapshot of a {c}",
    "a studio photo of a {c}",
    "an amateur's photo of a {c}",
    "a drawing of a {c}",
    "a painting of a {c}",
    "a pencil sketch of a {c}",
    "a computer-made image of a {c}",
    "a toy {c}",
    "a typical {c}",
    "an unusual {c}",
    "a picture that shows a {c}",
)
"""The best known first, then pairs of opposites, so that short ladders are balanced."""


@strategy("prompts")
def prompts(class_name: str, domain: str) -> Sequence[Category]:
    """The class name, then 28 photo prompts: a photo of a C, a close-up of a C, a C at night, ...

    >>> [category.text for category in prompts("dog", "animal")][:3]
    ['dog', 'a photo of a dog', 'a photo of several dogs']
    """
    return list(fill_templates(class_name, domain, PROMPTS, "strategy prompts"))


_CUSTOM_WHERE = "strategy custom, option templates"


@context_strategy("custom", options=("templates",))
def custom(context: StrategyContext) -> Mapping[str, list[Category]]:
    """Custom templates with {c}, {C}, {cs} and {domain}, in the sequence of the option `templates`.

    The class name is always first; plurals are correct.

    >>> options = {"templates": ["a photo of a {c}", "{cs}"]}
    >>> custom(StrategyContext(("dog",), "animal", options))["dog"][2]
    Category(text='dogs', provenance='{cs}')
    """
    templates = read_option(context.options, "templates", TEXTS, "strategy custom")
    return {name: list(fill_templates(name, context.domain, templates, _CUSTOM_WHERE)) for name in context.classes}
