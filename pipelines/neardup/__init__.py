"""Near-duplicates: shingles, MinHash, bands, connected components, which copy stays."""
