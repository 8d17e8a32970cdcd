"""Images of a user through a run's networks: the parts of `reconstruct` and `score`."""
