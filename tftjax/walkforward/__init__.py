"""A training for every test year, pooled and summarised."""
