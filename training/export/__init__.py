"""Adapters for others: merged into a base, or in the forms that other servers take."""
