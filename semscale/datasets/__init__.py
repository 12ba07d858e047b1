"""Datasets: images with one true class each, read where they lie."""
