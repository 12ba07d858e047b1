"""Command ``semscale label``: labels images or texts with the nearest category."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from semscale.cli.group import main
from semscale.cli.options import FILE, MODEL, SchemaCommand, completer
from semscale.cli.output import Result, json_option


@main.command(cls=SchemaCommand, keys=("--encoder", "--server", "--store"))
@click.argument("source", metavar="INPUT", shell_complete=completer("dataset", "file"))
@click.option("--categories", metavar="LIST", help='Comma-separated: "cat,dog,bird"; quotes protect commas.')
@click.option(
    "--categories-file", type=FILE, metavar="FILE", help=".txt (one per line), .json list or .csv (first column)."
)
@click.option("--stats", is_flag=True, help="Also write stats.csv.")
@MODEL
@click.option("--column", metavar="NAME", help="Column or field with the texts, or with the images of a table.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the results.  [semscale-labels/NAME-ID]"
)
@click.option("--limit", type=click.IntRange(min=1), help="Label at most this many.")
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
@json_option(
    "kind, labelled, unusable, sent (counts), results, statistics, quarantine (files), categories (rows of stats.csv)"
)
def label(
    source: str, categories: str | None, categories_file: Path | None, stats: bool, out: Path | None, **options: Any
) -> Result:
    """Label each image or text with the category of the nearest embedding (highest cosine).

    INPUT has images (a folder, .zip, .tar, .tar.gz, or a dataset spec, see `semscale datasets`; it needs no classes) or
    texts (.csv, .tsv, .txt, .jsonl). Writes results.csv; with --stats also, per category, its share, mean cosine,
    variance and strongest competitor. Unusable items are listed in quarantine.csv. After an interruption the same
    command encodes only what is missing.

    \b
    semscale label photos.zip --categories "cat,dog,bird" --stats
    semscale label reviews.csv --column review --categories-file topics.txt --server grpc://gpu1:51000
    """
    from semscale.cli.show import show_label_result
    from semscale.common.progress import choose_reporter, open_console
    from semscale.label.labelling import label as run
    from semscale.label.listing import LabelRequest
    from semscale.label.text_input import read_categories, split_categories
    from semscale.store.mirrored_directory import store_directory

    if categories is not None and categories_file is None:
        names, notes = split_categories(categories)
    elif categories_file is not None and categories is None:
        names, notes = read_categories(categories_file)
    else:
        raise click.UsageError("give either --categories or --categories-file")
    report = choose_reporter(open_console(), quiet=options["quiet"])
    for line in notes:
        report.note(line)
    store = store_directory(options["store"])
    model, column, limit = options["model"], options["column"], options["limit"]
    request = LabelRequest(source, names, model, column, limit, options["encoder"] or "server", options["server"])
    result = run(request, out, report, store, stats=stats)
    return Result(result.to_json, lambda: show_label_result(open_console(min_width=100), result))
