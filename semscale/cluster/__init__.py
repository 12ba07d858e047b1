"""Ray: a running cluster, or a local one that ends with the sweep, and the watch over both."""
