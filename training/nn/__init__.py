"""The model that is trained, and the operations that it is computed with."""
