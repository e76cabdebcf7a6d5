"""Pages about what was found: one HTML file each, which fetches nothing and runs nothing."""
