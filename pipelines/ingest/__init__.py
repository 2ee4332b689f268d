"""Shards → pages → documents."""
