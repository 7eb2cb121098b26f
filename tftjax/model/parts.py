"""The parts of the network, for norms of gradients."""

# Which part a top-level module belongs to, by the start of its name.
PARTS = {
    "embeddings": ("embedding",),
    "variable_selection": ("encoder_selection", "decoder_selection", "static_encoder"),
    "lstm": ("lstm",),
    "attention": ("static_enrichment", "attention", "position_wise"),
    "output": ("output",),
}
