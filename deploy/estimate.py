"""Estimate of the cost of large studies: prints the tables of README.md, also with other assumptions.

python deploy/estimate.py --set price_node=0.9 --set nodes=64
"""

from __future__ import annotations

import click

SETTINGS = {
    "ImageNet-21k, ViT-B/32": ("imagenet", "b32"),
    "ImageNet-21k, ViT-L/14": ("imagenet", "l14"),
    "LAION-400M, ViT-B/32": ("laion", "b32"),
    "LAION-400M, ViT-L/14": ("laion", "l14"),
}

DATASETS = {
    "imagenet": {"images": 14_197_122, "classes": 21_841, "image_bytes": 100_000},
    "laion": {"images": 413_000_000, "classes": 1_000, "image_bytes": 24_000},
}

# the vision transformer: patches of patch x patch pixels and one class token
MODELS = {
    "b32": {"tokens": 50, "patch": 32, "width": 768, "layers": 12, "dimension": 512},
    "l14": {"tokens": 257, "patch": 14, "width": 1024, "layers": 24, "dimension": 768},
}

ASSUMED: dict[str, tuple[float, str]] = {
    "steps": (12, "scale steps, one text more per class at each"),
    "ladders": (4, "dataset x strategy x order: two strategies, two controls"),
    "nodes": (16, "GPU nodes of deploy/cluster"),
    "cores": (14, "cores of a node that read and decode images"),
    "gpu_flops": (121e12, "NVIDIA's figure for an L4, float16 without sparsity; FLOP/s"),
    "gpu_share": (0.25, "share of that which a transformer reaches; assumed, not measured"),
    "decode_s": (0.001, "seconds of a core for an image of any size: open, resize to 224, pack; assumed"),
    "decode_s_per_byte": (3.2e-8, "and for each byte of JPEG: 16 ms for 500 kB, measured here"),
    "server_rate": (
        990,
        "images/s through one server, measured on two busy cores with an earlier version: the least to expect",
    ),
    "core_flops": (135e9, "the scoring kernel on one core, FLOP/s; measured here"),
    "price_node": (0.60, "dollars an hour for a GPU node on spot; assumed"),
    "price_core": (0.05, "dollars an hour for a core on demand; assumed"),
    "price_gb_month": (0.023, "dollars for a GB in a bucket for a month; assumed"),
    "price_put": (5e-6, "dollars for an object written; assumed"),
}

# name, unit, formula; each may use those before it. A stored row is its floats, a SHA-256, and Parquet's 10 bytes. The
# driver has for each image 12 bytes of listing, a key and a number in the tables of store and coordinator, twice the
# key with its position, and its file name as a Python text of some 90 bytes; for each step of a ladder five numbers and
# a boolean.
FORMULAS = (
    ("read", "TB", "images * image_bytes / 1e12"),
    ("flop", "GFLOP an image", "(24 * layers * tokens * width**2 + 4 * layers * tokens**2 * width"
     " + 6 * (tokens - 1) * patch**2 * width) / 1e9"),
    ("gpu_rate", "images/s, a GPU", "gpu_share * gpu_flops / (flop * 1e9)"),
    ("cpu_rate", "images/s, a node's cores", "cores / (decode_s + decode_s_per_byte * image_bytes)"),
    ("node_hours", "node hours of encoding", "images / min(gpu_rate, cpu_rate, server_rate) / 3600"),
    ("hours", "hours on all nodes", "node_hours / nodes"),
    ("store", "GB in the store", "images * (4 * dimension + 32 + 10) / 1e9"),
    ("segments", "objects in the store", "images / 256"),
    ("categories", "texts of a ladder", "classes * steps"),
    ("score_hours", "core hours of scoring", "ladders * 2 * images * categories * dimension / core_flops / 3600"),
    ("embeddings", "GB of a node's object store", "images * 4 * dimension / 1e9"),
    ("driver", "GB of the driver: keys, names", "images * (12 + 2 * 40 + 73 + 90) / 1e9"),
    ("scores", "GB of the driver: scores", "ladders * images * steps * 21 / 1e9"),
    ("predictions", "GB of the driver: a predictions file", "images * (steps + 1) * 8 / 1e9"),
    ("encode_cost", "dollars to encode", "node_hours * price_node + segments * price_put"),
    ("score_cost", "dollars to score", "score_hours * price_core"),
    ("store_cost", "dollars a month to keep", "store * price_gb_month"),
)  # fmt: skip


def estimate(values: dict[str, float]) -> dict[str, float]:
    """Return every quantity of FORMULAS for one setting."""
    known = dict(values)
    for name, _, formula in FORMULAS:
        known[name] = float(eval(formula, {"__builtins__": {}, "min": min}, known))
    return {name: known[name] for name, _, _ in FORMULAS}


def number(value: float) -> str:
    """Format a number with three significant digits and thousands separators.

    >>> number(14_197_122), number(1.4197), number(0.02341)
    ('14,200,000', '1.42', '0.0234')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def tables(changes: dict[str, float]) -> str:
    """Return both tables in Markdown."""
    assumed = {name: changes.get(name, value) for name, (value, _) in ASSUMED.items()}
    lines = ["| assumed | value | what |", "|---|---|---|"]
    lines += [f"| `{name}` | {assumed[name]:g} | {what} |" for name, (_, what) in ASSUMED.items()]
    settings = [DATASETS[dataset] | MODELS[model] | assumed | changes for dataset, model in SETTINGS.values()]
    lines += ["", f"| quantity | {' | '.join(SETTINGS)} | formula |", f"|---|{'---|' * (len(SETTINGS) + 1)}"]
    for name in ("images", "classes", "image_bytes", "tokens", "patch", "width", "layers", "dimension"):
        lines.append(f"| `{name}` | {' | '.join(f'{values[name]:,}' for values in settings)} | given |")
    estimates = [estimate(values) for values in settings]
    for name, unit, formula in FORMULAS:
        lines.append(f"| `{name}`: {unit} | {' | '.join(number(one[name]) for one in estimates)} | `{formula}` |")
    return "\n".join(lines)


@click.command()
@click.option("--set", "pairs", multiple=True, metavar="NAME=NUMBER", help="Override an assumption; repeatable.")
def main(pairs: tuple[str, ...]) -> None:
    """Print what large studies cost, from stated assumptions."""
    known = {*ASSUMED, *DATASETS["imagenet"], *MODELS["b32"]}
    changes = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            changes[name] = float(value)
        except ValueError:
            raise click.BadParameter(f"{pair!r} is not NAME=NUMBER") from None
        if name not in known:
            raise click.BadParameter(f"{name!r} is none of {', '.join(sorted(known))}")
    click.echo(tables(changes))


if __name__ == "__main__":
    main()
