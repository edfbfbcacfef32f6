"""Sweeps: trainings that differ in a few recipe fields, their results in a table, without torch.

``sweeps/<name>/`` holds ``sweep.json`` (what is varied, and what came of each trial; replaced
whole), ``recipe.toml`` (what all trials have in common) and ``lock`` (held by whoever conducts it).
A trial is an ordinary run, which knows its sweep's name.
"""
