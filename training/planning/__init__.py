"""What is known of a training before it runs: its steps, its time, its memory, its room."""
