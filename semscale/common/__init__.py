"""Shared utilities: errors, credentials, redaction, texts, file systems, atomic files, progress."""
