"""Finished runs and published results: reading, comparison, replay."""
