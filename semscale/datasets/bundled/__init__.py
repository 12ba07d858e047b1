"""The two datasets that come with semscale, drawn when read and the same on every machine."""

from semscale.datasets.bundled.load import BUNDLED, load_bundled

__all__ = ["BUNDLED", "load_bundled"]
