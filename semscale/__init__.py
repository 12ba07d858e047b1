"""semscale: what happens to a CLIP model's labelling accuracy when every class gets more equivalent category texts."""

__version__ = "0.1.0"
