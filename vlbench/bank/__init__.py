"""Features of frozen towers, computed once and kept by content."""
