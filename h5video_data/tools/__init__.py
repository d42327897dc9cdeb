"""Tools for files: inspect, pack, repack, the demonstration and the command line."""
