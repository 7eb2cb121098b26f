"""What lies on the disk: a run's directory and its checkpoints."""
