"""The sides of ``bench train``: ours, a plain loop, and TRL, each in a process of its own."""
