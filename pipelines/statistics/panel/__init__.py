"""The collapse panel: measures of how varied a slice of the crawl is, from sketches that merge."""
