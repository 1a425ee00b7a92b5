"""What the items of a chunk are, by where they come from."""
