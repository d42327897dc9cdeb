"""Damaged files of all layouts: right values, or an error of this package that names the file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("seed", [0, 1000])
def test_damaged_files(seed):
    script = Path(__file__).with_name("fuzz_files.py")
    command = [sys.executable, script, "--cases", "150", "--seed", str(seed)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=280)
    found = json.loads(ran.stdout)
    assert found["wrong"] == [], ran.stderr
    assert found["counts"]["read: read"] > 30
    assert found["counts"]["read: error"] > 30
