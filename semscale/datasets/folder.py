"""Images in one folder per class, as torchvision's ImageFolder has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semscale.datasets.base import Dataset, Sample
from semscale.errors import SemscaleError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class FolderReader:
    """Reads images below a folder that every worker can reach.

    Attributes:
        root: absolute path of the dataset's folder.
    """

    root: str

    def read(self, file: str) -> bytes:
        """Return the bytes of an image given by its path below the root."""
        return (Path(self.root) / file).read_bytes()


def load_folder(path: str, *, domain: str) -> Dataset:
    """List the images of ``path/<class>/...``; the class is the folder's name with underscores as spaces.

    Raises:
        SemscaleError: the folder is missing, holds no class folders, or two folders name the same class.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise SemscaleError("the dataset's folder does not exist", where=str(root), expected="a folder per class")
    samples: list[Sample] = []
    folders: dict[str, str] = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        class_name = " ".join(folder.name.replace("_", " ").split())
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            continue
        other = folders.setdefault(class_name.casefold(), folder.name)
        if other != folder.name:
            raise SemscaleError(
                "two folders name the same class",
                where=str(root),
                found=f"{other!r} and {folder.name!r}",
                hint="merge or rename them",
            )
        samples += [Sample(file.relative_to(root).as_posix(), class_name) for file in files]
    classes = tuple(dict.fromkeys(sample.true_class for sample in samples))
    if len(classes) < 2:
        raise SemscaleError(
            "a study needs images of at least two classes",
            where=str(root),
            found=f"{len(classes)} folders with images ({', '.join(SUFFIXES)})",
            expected="one folder per class",
        )
    return Dataset(root.name, domain, classes, samples, FolderReader(str(root)))
