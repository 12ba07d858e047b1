"""Stage 1, encode: every unique image and text goes to a clip-server once and stays in a content-addressed store."""
