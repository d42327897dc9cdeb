"""`show`: pictures of samples, as PNG and HTML, without a plotting library."""
