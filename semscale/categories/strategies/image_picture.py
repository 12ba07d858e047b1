"""The second family of the founding study (arXiv 2503.12617): Image of C, Picture of C, and adjectives."""

from __future__ import annotations

from collections.abc import Sequence

from semscale.categories.fields import fill_templates
from semscale.categories.plurals import plural
from semscale.categories.registry import Category, strategy

PLAIN = (
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
"""As published for flowers and fruits; the list for every domain without one of its own."""

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
"""The lists that were published for these domains, in their order and case."""

_BY_HAND = {("fries", "{cs}"): "French Fries", ("hovercraft", "{cs}"): "hovercrafts"}
"""Where a published text is not what its template gives."""


@strategy("image-picture")
def image_picture(class_name: str, domain: str) -> Sequence[Category]:
    """C, Image of C, Picture of C, Cs, Cool C ...: the study's second family, by domain as published.

    Food, sports, vehicles and weather had lists of their own, everything else takes that of flowers and fruits. Plurals
    are real ones in this family, as published. Not reproduced are the lists of Animal4 and Vehicle7, which its authors
    wrote by hand for each class ("Tusker Elephant", "Mountain Bike").

    >>> [category.text for category in image_picture("bus", "vehicle")][:5]
    ['bus', 'image of bus', 'picture of bus', 'buses', 'cool bus']
    """
    word = domain.strip().casefold()
    templates = BY_DOMAIN.get(word) or BY_DOMAIN.get(_singular(word)) or PLAIN
    return [
        Category(_BY_HAND.get((class_name.casefold(), made.provenance), made.text), made.provenance)
        for made in fill_templates(class_name, domain, templates, "strategy image-picture")
    ]


def _singular(word: str) -> str:
    return next((known for known in BY_DOMAIN if plural(known) == word), word)
