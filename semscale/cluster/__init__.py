"""Ray: the connection to a cluster, or to a local Ray that ends with the sweep, and a watchdog of both."""
