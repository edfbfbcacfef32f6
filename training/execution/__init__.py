"""What a training does while it runs: steps, alone or in a group, and all that is written down."""
