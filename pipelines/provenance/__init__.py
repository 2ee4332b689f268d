"""Evidence to verdict: what a page says about itself, what it leaks, and the policy that decides."""
