"""Watermarks in a crawl: from the p-values of documents to findings, after correction for how many were tested."""
