"""`repack`: samples and frames into another layout, and all else beside them, unchanged."""
