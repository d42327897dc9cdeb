"""Adds to setup.cfg what it cannot say: a compiled helper, without which the package works, too."""

from setuptools import Extension, setup

NAME = "h5video_data.storage._chunk_runs"
SOURCE = "h5video_data/storage/_chunk_runs.c"

# Optional: where it cannot be compiled, the package is installed without it.
setup(ext_modules=[Extension(NAME, [SOURCE], py_limited_api=True, optional=True)])
