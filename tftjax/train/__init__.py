"""Training: losses, optimizer, the compiled step, the loop, and what is watched."""
