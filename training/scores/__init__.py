"""What a model is worth: the likelihood of given replies, and measures of those it makes."""
