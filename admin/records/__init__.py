"""What the command line makes of the records of trainings: a live view, charts, comparisons."""
