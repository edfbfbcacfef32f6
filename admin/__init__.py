"""The command line, ``lccc-admin``. Thin: heavy imports live inside command bodies."""
