"""The base `pocket`: a small real chat model, built on this machine."""
