"""The OpenAPI document: what handlers tell it, its examples, and how it is put together."""
