"""Finished runs and published results: read, scored again, compared."""
