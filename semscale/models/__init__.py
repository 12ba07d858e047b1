"""CLIP models: names, checkpoints, loading, preprocessing and fingerprints."""
