"""Shards to pages, pages to documents."""
