"""What a trained model selects and attends to."""
