"""What benchmarks set beside each other.

Of ``bench train`` the sides, each in a process of its own: ours, a plain loop, and TRL. Of
``bench peft`` PEFT's own batches.
"""
