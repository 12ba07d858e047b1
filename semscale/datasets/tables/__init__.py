"""Loaders of annotation tables: CSV, TSV, JSON lines and Parquet."""
