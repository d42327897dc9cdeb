"""From samples to byte ranges and chunks, and what to cache: pure data, no files, no threads."""
