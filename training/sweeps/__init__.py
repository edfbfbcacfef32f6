"""Sweeps: trainings that differ in a few recipe fields, their results in a table, without torch.

``sweeps/<name>/`` holds ``sweep.json`` (what is varied, and what came of each trial; replaced
whole), ``recipe.toml`` (what all trials have in common), ``sweep.toml`` (a file that goes on with
it, from anywhere), ``lock`` (held by whoever conducts it) and, once it is asked to end, ``stop``.
A trial is an ordinary run, which knows its sweep's name.
"""
