"""The queue: what was accepted and is not yet settled, on disk."""
