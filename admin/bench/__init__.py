"""What ``lccc-admin bench`` measures with: load, clocks and figures."""
