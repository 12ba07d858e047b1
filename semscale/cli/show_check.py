"""What ``semscale datasets check`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from semscale.datasets.check import LONG_RATIO, SMALL_SIDE, Examination
from semscale.datasets.duplicates import same_picture
from semscale.redact import printable

_MOST_CLASSES = 40
_MOST_NAMED = 10


def show_check(console: Console, found: Examination, max_bad_fraction: float, *, everything: bool) -> None:
    """Print what a dataset holds.

    Args:
        console: where to.
        found: what reading it gave.
        max_bad_fraction: the share of images that may be unusable.
        everything: all classes, not only the first 40.
    """
    console.print()
    console.print(_head(found), style="bold")
    for note in found.dataset.notes:
        console.print(Text(f"note: {printable(note)}", style="yellow"))
    console.print()
    console.print(_classes(found, everything))
    console.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, lines in _facts(found, max_bad_fraction):
        for i, line in enumerate(lines):
            facts.add_row("" if i else name, Text(printable(line)))
    bad = not found.passes(max_bad_fraction)
    console.print(facts)
    console.print()
    console.print(_verdict(found, max_bad_fraction), style="bold red" if bad else "green")


def _head(found: Examination) -> Text:
    dataset = found.dataset
    return Text(
        f"{dataset.name}: {_count(found.n_images, 'image')} of {len(dataset.classes):,} classes; domain: "
        f"{dataset.domain}"
    )


def _classes(found: Examination, everything: bool) -> Table:
    usable, bad = found.class_counts()
    first, classes = found.first_samples(), found.dataset.classes
    shown = len(classes) if everything or len(classes) <= _MOST_CLASSES + 1 else _MOST_CLASSES
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class, as the model reads it", overflow="fold", ratio=None)
    table.add_column("images", justify="right", no_wrap=True)
    if bad.any():
        table.add_column("unusable", justify="right", no_wrap=True)
    table.add_column("for example", overflow="fold")
    for index in range(shown):
        counts = [f"{usable[index]:,}", *([f"{bad[index]:,}" if bad[index] else ""] if bad.any() else [])]
        sample = Text(printable(first[index].file)) if index in first else Text("none", style="red")
        table.add_row(Text(printable(classes[index])), *counts, sample)
    if shown < len(classes):
        rest = [f"{usable[shown:].sum():,}", *([f"{bad[shown:].sum():,}"] if bad.any() else [])]
        more = Text(f"and {len(classes) - shown:,} more classes", style="dim")
        table.add_row(more, *rest, Text("--all lists them", style="dim"))
    return table


def _facts(found: Examination, max_bad_fraction: float) -> Iterator[tuple[str, list[str]]]:
    yield from _picture_facts(found)
    samples, same = found.dataset.samples, found.duplicates
    if not same.copies:
        yield "duplicates", ["none"]
    else:
        yield (
            "duplicates",
            [
                f"{_count(same.copies, 'exact copy', 'exact copies')} of other images "
                f"({_count(same.pictures, 'picture')} more than once); each is counted",
                *(same_picture(samples, group) for group in same.alike[:3]),
            ],
        )
    if same.conflicts:
        named = [same_picture(samples, group) for group in same.conflicts[:_MOST_NAMED]]
        yield (
            "conflicts",
            [
                f"{_count(len(same.conflicts), 'picture')} under different classes, so that one image is always wrong",
                *named,
                *_more(len(same.conflicts), len(named)),
            ],
        )
    bad = found.quarantine
    if bad:
        listed = [f"{file}: {reason}" for file, reason in list(bad.items())[:_MOST_NAMED]]
        usable, lost = found.class_counts()
        without = [name for name, n, k in zip(found.dataset.classes, usable, lost, strict=True) if k and not n]
        if without:
            named = [*without[:_MOST_NAMED], *_more(len(without), _MOST_NAMED)]
            yield "no image left", [f"{_count(len(without), 'class', 'classes')}: {', '.join(named)}"]
        yield "unusable", [_count(len(bad), "image"), *listed, *_more(len(bad), len(listed), "--quarantine FILE.csv")]


def _picture_facts(found: Examination) -> Iterator[tuple[str, list[str]]]:
    sizes = found.size_facts()
    if sizes is None:
        return
    smallest, median, largest = (
        (sizes[key]["width"], sizes[key]["height"]) for key in ("smallest", "median", "largest")
    )
    if smallest == largest:
        lines = [f"all {_pixels(smallest)} pixels"]
    else:
        lines = [
            f"median {_pixels(median)} pixels",
            f"smallest {_pixels(smallest)}: {sizes['smallest']['file']}",
            f"largest {_pixels(largest)}: {sizes['largest']['file']}",
        ]
    if sizes["small"]:
        lines.append(f"{_count(sizes['small'], 'image')} with a side under {SMALL_SIDE} pixels")
    if sizes["long"]:
        lines.append(
            f"{_count(sizes['long'], 'image')} over {LONG_RATIO} times as long as wide: a model sees the middle"
        )
    yield "sizes", lines
    yield "formats", [_counted(found.formats)]
    yield "modes", [_counted(found.modes)]
    odd = []
    if found.several:
        odd.append(f"{_count(found.several, 'file')} with several pictures (animation, pages): the first is taken")
    if found.turned:
        odd.append(
            f"{_count(found.turned, 'image')} with an EXIF tag that asks for turning: taken as stored, like "
            "clip-server, unless --orientation exif"
        )
    if found.transparent:
        odd.append(f"{_count(found.transparent, 'image')} with transparency: the colours beneath are shown")
    if odd:
        yield "besides", odd


def _verdict(found: Examination, max_bad_fraction: float) -> Text:
    bad, most = len(found.quarantine), found.most_bad(max_bad_fraction)
    if not bad:
        return Text(f"all {_count(found.n_images, 'image')} can be used")
    share = f"{bad:,} of {_count(found.n_images, 'image')} cannot be used ({100 * bad / found.n_images:.2g} %)"
    if found.passes(max_bad_fraction):
        return Text(f"{share}; a sweep goes on without them")
    allowed = f"at most {most:,} may be bad (max_bad_fraction {max_bad_fraction:g})"
    return Text(f"{share}; {allowed}, so a sweep stops")


def _more(total: int, shown: int, option: str = "--json") -> Sequence[str]:
    return [f"and {total - shown:,} more; {option} lists all"] if total > shown else []


def _count(n: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun.

    >>> _count(1, "image"), _count(1200, "image"), _count(2, "copy", "copies")
    ('1 image', '1,200 images', '2 copies')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def _counted(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {n:,}" for name, n in ordered)


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"
