"""The study run: the four stages in order, resume, and progress."""
