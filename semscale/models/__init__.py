"""CLIP models: their names, checkpoints, loading, preprocessing and fingerprints."""
