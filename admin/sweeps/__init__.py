"""How `lccc-admin sweep` goes through its trials, and how it shows them."""
