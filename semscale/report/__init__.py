"""Figures of curves and confusion matrices, and the HTML report of a run directory."""
