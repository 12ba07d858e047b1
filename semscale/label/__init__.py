"""Labelling images or texts with the nearest of some categories, without classes and without a study."""
