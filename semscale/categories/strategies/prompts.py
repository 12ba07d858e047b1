"""Photo prompts in the manner of CLIP's prompt ensembles (Radford et al. 2021), in words of our own."""

from __future__ import annotations

from collections.abc import Sequence

from semscale.categories.fields import fill_templates
from semscale.categories.registry import Category, strategy

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
"""Best known first, then pairs of opposites, so that short ladders are balanced."""


@strategy("prompts")
def prompts(class_name: str, domain: str) -> Sequence[Category]:
    """The class name, then 28 photo prompts: a photo of a C, a close-up of a C, a C at night, ...

    >>> [category.text for category in prompts("dog", "animal")][:3]
    ['dog', 'a photo of a dog', 'a photo of several dogs']
    """
    return list(fill_templates(class_name, domain, PROMPTS, "strategy prompts"))
