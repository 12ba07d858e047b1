"""Finished studies side by side: their curves, what differs between them, and paired where the images are the same."""
