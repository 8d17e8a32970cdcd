"""Applying a run's networks to single images: the parts of `reconstruct` and `score`."""
