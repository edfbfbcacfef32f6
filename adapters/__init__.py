"""What training and serving agree on: adapter directories, the registry, bases and prompts.

This package knows neither of the two sides, and imports no torch at module level.
"""
