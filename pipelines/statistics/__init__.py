"""Synthetic share, diversity and the report."""
