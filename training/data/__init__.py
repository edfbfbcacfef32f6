"""Dialogue data: raw files to prepared datasets to token sequences."""
