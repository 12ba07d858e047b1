"""Images named by the rows of a table: CSV, TSV, JSON lines, Parquet."""
