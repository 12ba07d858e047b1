"""Strategies. Every module of this package is imported when a strategy is looked up by name."""
