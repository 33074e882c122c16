"""Training: the loop, its state and checkpoints, its workers and trackers; Ray is not needed."""
