"""Content-addressed embedding store: immutable segments, key index, encoder fingerprints, mirrored directories."""
