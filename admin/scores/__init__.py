"""Evaluations for people: tables, and reports as files."""
