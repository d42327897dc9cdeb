from __future__ import annotations

import argparse

import numpy as np
import pytest

from h5video_data.tools.flags import in_flags, indices_of, size_of

MESSAGES = {
    "a flag": ("overwrite=True", "--overwrite"),
    "no value": ("compression=None", "--compression none"),
    "a list": ("Received: x=['a b', \"c'd\"]", "Received: --x 'a b' --x 'c'\"'\"'d'"),
    "a pair": ("(size=(8, 96), stride=2)", "(--size 8x96, --stride 2)"),
    "quoted": ("it's 'x=3 `x`', `x`'s", "it's 'x=3 `x`', --x's"),
    "a path": ("/data/x=3/a.h5 x=3 `x`", "/data/x=3/a.h5 --x 3 --x"),
    "no literal": ("size=(n m), size=(n, m), x=X", None),
    "a call": (
        'x=3, by h5v.f("a", x="b", w=h5v.W(x=1, b=("c", "d")), x=4), x=5',
        '--x 3, by h5v.f("a", x="b", w=h5v.W(x=1, b=("c", "d")), x=4), --x 5',
    ),
    "others": ("`h5clear -s`, `sample_count`, y='Y', A=FALSE", None),
}


@pytest.mark.parametrize(("message", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_python_arguments_become_flags(message, expected):
    names = ("overwrite", "compression", "x", "size", "stride")
    assert in_flags(message, {name: f"--{name}" for name in names}) == (expected or message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:3", [0, 1, 2]),
        ("7", [7]),
        ("3, 5,8", [3, 5, 8]),
        ("8:10,2", [8, 9, 2]),
        ("4:4", []),
    ],
)
def test_numbers_of_samples(text, expected):
    assert indices_of(text).tolist() == expected


def test_numbers_of_samples_in_files(tmp_path):
    text, array, mask = tmp_path / "a.txt", tmp_path / "a.npy", tmp_path / "mask.npy"
    text.write_text("3\n5, 8\n")
    np.save(array, [2, 4])
    np.save(mask, np.array([True, False]))
    assert indices_of(f"@{text}").tolist() == [3, 5, 8]
    assert indices_of(f"@{array}").tolist() == [2, 4]
    assert indices_of(f"@{mask}").dtype == bool


@pytest.mark.parametrize("text", ["", "-1", "1:", ":5", "a", "1.5", "0:9:2", "1,,2"])
def test_what_is_no_number_of_a_sample(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"as 3,5,8, 0:100 .* or @FILE, and is"):
        indices_of(text)


def test_files_that_hold_no_numbers(tmp_path):
    (tmp_path / "a.txt").write_text("1 two")
    np.save(tmp_path / "a.npy", np.array([None]), allow_pickle=True)
    for name in ("a.txt", "a.npy"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"must be a \.npy file, or a text of"):
            indices_of(f"@{tmp_path / name}")
    with pytest.raises(argparse.ArgumentTypeError, match="cannot read the file: No such file"):
        indices_of(f"@{tmp_path / 'none'}")


def test_sizes():
    assert size_of("112") == (112, 112)
    assert size_of("48X64") == (48, 64)
    for text in ("big", "0", "1x2x3", "-4", "1.5", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="as 112 or 112x96, and is"):
            size_of(text)
