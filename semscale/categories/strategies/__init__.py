"""One strategy per file; every module of this package is imported when a strategy is looked up by name."""
