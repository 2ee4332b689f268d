"""What runs: three Beam pipelines over crawl shards, and the command that starts them."""
