"""Protocols: what is trained and tested, and the runner that does it."""
