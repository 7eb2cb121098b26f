"""What is made of a run's quantiles: other levels, conformal calibration, sample paths."""
