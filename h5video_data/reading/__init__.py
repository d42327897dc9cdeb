"""From byte ranges to batches: byte sources, decoding, buffers, threads, prefetching."""
