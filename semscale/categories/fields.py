"""Templates with named fields: {c} the class name, {C} the same with a capital, {cs} its plural, {domain}."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

from semscale.categories.plurals import plural
from semscale.categories.registry import Category
from semscale.errors import SemscaleError

FIELDS = ("c", "C", "cs", "domain")
"""What a template may hold between braces; doubled braces stand for themselves."""


def capitalised(text: str) -> str:
    """Return the text with its first letter as a capital and the rest as it is.

    >>> capitalised("fire truck"), capitalised("iPhone")
    ('Fire truck', 'IPhone')
    """
    return text[:1].upper() + text[1:]


def check_template(template: str, where: str) -> None:
    """Refuse a template with other fields than :data:`FIELDS`, and one that does not name the class.

    Raises:
        SemscaleError: naming the template and the field.
    """
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise SemscaleError("the template cannot be read", where=where, found=repr(template), hint=str(error)) from None
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    for _, field, spec, conversion in parts:
        if field not in FIELDS or spec or conversion:
            found = f"{{{field}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}}} in {template!r}"
            raise SemscaleError("unknown field in a template", where=where, found=found, expected=known)
    if not {"c", "C", "cs"} & {field for _, field, _, _ in parts}:
        raise SemscaleError(
            "a template does not name the class, so it would be the same text for all of them",
            where=where,
            found=repr(template),
            expected="{c}, {C} or {cs} in it",
        )


def fill_templates(class_name: str, domain: str, templates: Sequence[str], where: str) -> Iterator[Category]:
    """Yield the class name, then each template filled in; the provenance is the template.

    The class name stays as it stands in the dataset, underscores included, so that the categories differ from it by
    the template only.

    Raises:
        SemscaleError: for a template with the wrong fields, and for {domain} with a blank domain.

    >>> made = fill_templates("fire truck", "vehicle", ["{C}, a {domain}", "photo of {cs}"], "demo")
    >>> [category.text for category in made]
    ['fire truck', 'Fire truck, a vehicle', 'photo of fire trucks']
    """
    yield Category(class_name, "{c}")
    for template in templates:
        check_template(template, where)
        if "{domain}" in template and not domain.strip():
            raise SemscaleError(
                "a template needs the word for what all classes are",
                where=where,
                found=f"domain {domain!r} for {template!r}",
                hint="give the dataset a domain",
            )
        values = {"c": class_name, "C": capitalised(class_name), "domain": domain.strip()}
        if "{cs}" in template:
            values["cs"] = plural(class_name)
        yield Category(template.format(**values), template)
