"""The same agent in many processes."""
