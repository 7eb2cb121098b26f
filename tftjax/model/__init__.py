"""The Temporal Fusion Transformer: layers, attention, wiring, parameters."""
