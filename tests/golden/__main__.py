"""Write the golden results anew: ``python tests/golden``; their difference belongs into the commit's message."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from studies import HERE, STORE, STUDIES, run, tables


def main() -> None:
    """Run every golden study and keep its tables."""
    for name in STUDIES:
        with tempfile.TemporaryDirectory() as folder:
            for table, frame in tables(run(name, Path(folder), frozen=False)).items():
                (HERE / name).mkdir(exist_ok=True)
                frame.to_parquet(HERE / name / f"{table}.parquet", index=False, compression="zstd")
            merge(Path(folder) / "store")
        print(f"{name}: written")


def merge(store: Path) -> None:
    """Keep the embeddings that were new."""
    for path in store.rglob("*"):
        kept = STORE / path.relative_to(store)
        if path.is_file() and not path.name.startswith("origin-") and pq_or_record(path) and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)


def pq_or_record(path: Path) -> bool:
    """Return whether the file is a segment that can be read, or the encoder's record."""
    return path.name == "encoder.json" or (path.suffix == ".parquet" and pq.read_metadata(path).num_rows > 0)


if __name__ == "__main__":
    main()
