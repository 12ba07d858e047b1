"""Output of ``semscale datasets check``."""

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


def show_check(console: Console, found: DatasetCheck, max_bad_fraction: float, *, everything: bool) -> None:
    """Print what reading a dataset found; all classes with `everything`, else the first 40."""
    dataset, passes = found.dataset, found.passes(max_bad_fraction)
    head = f"{dataset.name}: {counted(found.n_images, 'images', ',')} of {len(dataset.classes):,} classes"
    notes = [Text(f"note: {printable(note)}", "yellow") for note in dataset.notes]
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, lines in (*_picture_facts(found), *_faults(found)):
        for i, line in enumerate(lines):
            facts.add_row("" if i else name, Text(printable(line)))
    verdict = Text(_verdict(found, max_bad_fraction), "green" if passes else "bold red")
    title = Text(f"{head}; domain: {dataset.domain}", "bold")
    console.print(Group("", title, *notes, "", _classes(found, everything), "", facts, "", verdict))


def _classes(found: DatasetCheck, everything: bool) -> Table:
    usable, bad = found.class_counts()
    first, classes = found.first_samples(), found.dataset.classes
    shown = len(classes) if everything or len(classes) <= _MOST_CLASSES + 1 else _MOST_CLASSES
    rows = [
        (name, f"{n:,}", f"{k:,}" if k else "", first[index].file if index in first else "none")
        for index, (name, n, k) in enumerate(zip(classes[:shown], usable, bad, strict=False))
    ]
    if shown < len(classes):
        rest = (f"{usable[shown:].sum():,}", f"{bad[shown:].sum():,}")
        rows.append((f"and {counted(len(classes) - shown, 'more classes', ',')}", *rest, "--all lists them"))
    titles = "class, as the model reads it|images>|unusable>|for example"
    if not bad.any():
        return make_table(titles.replace("unusable>|", ""), [(name, n, example) for name, n, _, example in rows])
    return make_table(titles, rows)


def _faults(found: DatasetCheck) -> Iterator[tuple[str, list[str]]]:
    samples, same, bad = found.dataset.samples, found.duplicates, found.quarantine
    copies = f"{counted(same.copies, 'exact copies', ',')} of other images"
    copies += f" ({counted(same.n_groups, 'pictures', ',')} more than once); each is counted"
    alike = [format_duplicates(samples, group) for group in same.same_class[:3]]
    yield "duplicates", [copies, *alike] if same.copies else ["none"]
    if same.conflicts:
        what = f"{counted(len(same.conflicts), 'pictures', ',')} under different classes, so that one image is wrong"
        yield "conflicts", [what, *_first([format_duplicates(samples, group) for group in same.conflicts])]
    if bad:
        without = [name for name, n, k in zip(found.dataset.classes, *found.class_counts(), strict=True) if k and not n]
        if without:
            yield "no image left", [f"{counted(len(without), 'classes', ',')}: {', '.join(_first(without))}"]
        listed = _first([f"{file}: {reason}" for file, reason in bad.items()], "--quarantine FILE.csv")
        yield "unusable", [counted(len(bad), "images", ","), *listed]


def _picture_facts(found: DatasetCheck) -> Iterator[tuple[str, list[str]]]:
    sizes = found.size_summary()
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
    lines += _counted(sizes["long"], f"images over {LONG_RATIO} times as long as wide: a model sees the middle")
    yield "sizes", lines
    for name in ("format", "mode"):
        ordered = sorted(found.counts[name].items(), key=lambda pair: (-pair[1], pair[0]))
        yield f"{name}s", [", ".join(f"{key} {n:,}" for key, n in ordered)]
    several, turned, transparent = (found.counts[name][True] for name in ("multi_frame", "rotated", "transparent"))
    exif = "images with an EXIF tag that asks for turning: taken as stored, like clip-server, unless --orientation exif"
    besides = _counted(several, "files with several pictures (animation, pages): the first is taken")
    besides += _counted(turned, exif)
    yield "besides", besides + _counted(transparent, "images with transparency: the colours beneath are shown")


def _verdict(found: DatasetCheck, max_bad_fraction: float) -> str:
    bad, images = len(found.quarantine), counted(found.n_images, "images", ",")
    if not bad:
        return f"all {images} can be used"
    share = f"{bad:,} of {images} cannot be used ({100 * bad / found.n_images:.2g} %)"
    if found.passes(max_bad_fraction):
        return f"{share}; a sweep goes on without them"
    allowed = f"at most {found.most_bad(max_bad_fraction):,} may be bad (max_bad_fraction {max_bad_fraction:g})"
    return f"{share}; {allowed}, so a sweep stops"


def _first(lines: list[str], option: str = "--json") -> list[str]:
    more = len(lines) - _MOST_NAMED
    return [*lines[:_MOST_NAMED], f"and {more:,} more; {option} lists all"] if more > 0 else lines


def _counted(n: int, phrase: str) -> list[str]:
    return [counted(n, phrase, ",")] if n else []
