"""Output of ``semscale datasets check``: classes, image sizes and formats, duplicates, unusable images, verdict."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from semscale.cli.output import make_table
from semscale.common.redact import printable
from semscale.common.text import counted
from semscale.datasets.dataset_check import LONG_RATIO, SMALL_SIDE, DatasetCheck, format_duplicates

_MOST_CLASSES = 40
_MOST_NAMED = 10


def show_check(console: Console, result: DatasetCheck, max_bad_fraction: float, *, everything: bool) -> None:
    """Print the result of checking a dataset; all classes with `everything`, else the first 40."""
    dataset, passes = result.dataset, result.passes(max_bad_fraction)
    head = f"{dataset.name}: {counted(result.n_images, 'images', ',')} of {len(dataset.classes):,} classes"
    notes = [Text(f"note: {printable(note)}", "yellow") for note in dataset.notes]
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, lines in (*_image_facts(result), *_problems(result)):
        for i, line in enumerate(lines):
            facts.add_row("" if i else name, Text(printable(line)))
    verdict = Text(_verdict(result, max_bad_fraction), "green" if passes else "bold red")
    title = Text(f"{head}; domain: {dataset.domain}", "bold")
    console.print(Group("", title, *notes, "", _classes(result, everything), "", facts, "", verdict))


def _classes(result: DatasetCheck, everything: bool) -> Table:
    usable, bad = result.class_counts()
    first, classes = result.first_samples(), result.dataset.classes
    shown = len(classes) if everything or len(classes) <= _MOST_CLASSES + 1 else _MOST_CLASSES
    rows = [
        (name, f"{n:,}", f"{k:,}" if k else "", first[index].file if index in first else "none")
        for index, (name, n, k) in enumerate(zip(classes[:shown], usable, bad, strict=False))
    ]
    if shown < len(classes):
        sums = (f"{usable[shown:].sum():,}", f"{bad[shown:].sum():,}")
        rows.append((f"and {counted(len(classes) - shown, 'more classes', ',')}", *sums, "--all lists them"))
    titles = "class, as the model reads it|images>|unusable>|for example"
    if not bad.any():
        return make_table(titles.replace("unusable>|", ""), [(name, n, example) for name, n, _, example in rows])
    return make_table(titles, rows)


def _problems(result: DatasetCheck) -> Iterator[tuple[str, list[str]]]:
    samples, same, bad = result.dataset.samples, result.duplicates, result.quarantine
    copies = f"{counted(same.copies, 'exact copies', ',')} of other images"
    copies += f" ({counted(same.n_groups, 'pictures', ',')} more than once); each is counted"
    examples = [format_duplicates(samples, group) for group in same.same_class[:3]]
    yield "duplicates", [copies, *examples] if same.copies else ["none"]
    if same.conflicts:
        count = f"{counted(len(same.conflicts), 'pictures', ',')} under different classes: at least one label is wrong"
        yield "conflicts", [count, *_first([format_duplicates(samples, group) for group in same.conflicts])]
    if bad:
        empty = [name for name, n, k in zip(result.dataset.classes, *result.class_counts(), strict=True) if k and not n]
        if empty:
            yield "no usable image", [f"{counted(len(empty), 'classes', ',')}: {', '.join(_first(empty))}"]
        listed = _first([f"{file}: {reason}" for file, reason in bad.items()], "--quarantine FILE.csv")
        yield "unusable", [counted(len(bad), "images", ","), *listed]


def _image_facts(result: DatasetCheck) -> Iterator[tuple[str, list[str]]]:
    sizes = result.size_summary()
    if sizes is None:
        return
    small, median, large = (
        f"{sizes[key]['width']:,} x {sizes[key]['height']:,}" for key in ("smallest", "median", "largest")
    )
    lines = [f"all {small} pixels"]
    if small != large:
        lines = [f"median {median} pixels"]
        lines += [f"smallest {small}: {sizes['smallest']['file']}", f"largest {large}: {sizes['largest']['file']}"]
    lines += _counted(sizes["small"], f"images with a side under {SMALL_SIDE} pixels")
    lines += _counted(sizes["long"], f"images over {LONG_RATIO} times as long as wide: a model sees only the centre")
    yield "sizes", lines
    for name in ("format", "mode"):
        ordered = sorted(result.counts[name].items(), key=lambda pair: (-pair[1], pair[0]))
        yield f"{name}s", [", ".join(f"{key} {n:,}" for key, n in ordered)]
    several, turned, transparent = (result.counts[name][True] for name in ("multi_frame", "rotated", "transparent"))
    exif = "images with an EXIF orientation: used as stored, as clip-server does, unless --orientation exif"
    notes = _counted(several, "files with several pictures (animation, pages): the first is used")
    notes += _counted(turned, exif)
    yield "notes", notes + _counted(transparent, "images with transparency: the colours beneath it are used")


def _verdict(result: DatasetCheck, max_bad_fraction: float) -> str:
    bad, images = len(result.quarantine), counted(result.n_images, "images", ",")
    if not bad:
        return f"all {images} can be used"
    share = f"{bad:,} of {images} cannot be used ({100 * bad / result.n_images:.2g} %)"
    if result.passes(max_bad_fraction):
        return f"{share}; a sweep continues without them"
    limit = f"at most {result.max_bad(max_bad_fraction):,} may be unusable (max_bad_fraction {max_bad_fraction:g})"
    return f"{share}; {limit}, so a sweep stops"


def _first(lines: list[str], option: str = "--json") -> list[str]:
    more = len(lines) - _MOST_NAMED
    return [*lines[:_MOST_NAMED], f"and {more:,} more; {option} lists all"] if more > 0 else lines


def _counted(n: int, phrase: str) -> list[str]:
    return [counted(n, phrase, ",")] if n else []
