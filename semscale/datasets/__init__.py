"""Datasets: images with one true class each, listed by the driver and read in place by the workers."""
