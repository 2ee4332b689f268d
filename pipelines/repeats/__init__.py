"""Repeated paragraphs (boilerplate): which recur across hosts, how much of it there is, and texts without it."""
