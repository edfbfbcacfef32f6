"""Training: dialogues in, an adapter directory out. Knows nothing of the server."""
