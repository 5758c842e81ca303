"""From a checkpoint to what other programs read."""
