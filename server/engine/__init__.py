"""The engine: tokens in, tokens out, for many adapters in one batch. Knows nothing of HTTP."""
