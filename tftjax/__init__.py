"""A Temporal Fusion Transformer in functional JAX that forecasts the distribution of returns."""
