"""Models of a series' volatility, fitted on train rows, for baselines and for the scale of a target."""
