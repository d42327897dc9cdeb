"""Adds to setup.cfg what it cannot say: a compiled helper, without which the package works, too."""

import sysconfig

from setuptools import Extension, setup

# One wheel for all Pythons from 3.10 on, but for free-threaded ones, which have no such interface.
is_limited = not sysconfig.get_config_var("Py_GIL_DISABLED")

helper = Extension(
    "h5video_data.storage._chunk_runs",
    ["h5video_data/storage/_chunk_runs.c"],
    py_limited_api=is_limited,
    optional=True,  # where it cannot be compiled, the package is installed without it
)
setup(
    ext_modules=[helper],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if is_limited else {},
)
