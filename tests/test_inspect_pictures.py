"""What `inspect` tells of rows that are encoded pictures, and the call that opens them."""

import h5py
import numpy as np
import pytest
from picture_rows_helpers import PICTURE_SCHEMAS

import h5video_data as h5v
from h5video_data.storage.pictures.codecs import encode_picture

NUM = 12


def pictures(codec="jpeg", sizes=((20, 30),)):
    rng = np.random.default_rng(0)
    return [
        encode_picture(rng.integers(0, 256, (*sizes[i % len(sizes)], 3), np.uint8), codec)
        for i in range(NUM)
    ]


def write(path, rows, kind):
    with h5py.File(path, "w") as file:
        if kind == "variable":
            frames = file.create_dataset("frames", NUM, h5py.vlen_dtype(np.uint8))
            for i, row in enumerate(rows):
                frames[i] = np.frombuffer(row, np.uint8)
        elif kind == "strings":
            file["frames"] = np.array(rows, "S")
        else:
            longest = max(map(len, rows))
            file["frames"] = [np.frombuffer(row.ljust(longest, b"\0"), np.uint8) for row in rows]
    return path


@pytest.mark.parametrize("kind", ["variable", "strings", "padded"])
def test_the_report_and_its_call(tmp_path, kind):
    path = write(tmp_path / "a.h5", pictures(), kind)
    report = h5v.inspect(path)
    (item,) = report.datasets
    assert (item.path, item.shape, item.dtype) == ("pictures", (NUM, 20, 30, 3), "uint8")
    assert item.pictures.codecs == {"jpeg": NUM}
    assert item.pictures.sizes == ((20, 30),)
    assert item.pictures.mean_nbytes == sum(map(len, pictures())) / NUM
    assert f"of {NUM} rows looked at, {NUM} JPEG, of 20 x 30 pixels" in str(report)
    assert ('decode="image"' in report.call) == (kind == "padded")
    assert not report.problems


def test_sizes_and_codecs_that_differ(tmp_path):
    rows = pictures(sizes=((20, 30), (24, 16)))
    rows[3] = pictures("png")[3]
    rows[5] = b"nothing"
    path = write(tmp_path / "a.h5", rows, "variable")
    report = h5v.inspect(path)
    (item,) = report.datasets
    assert item.pictures.codecs == {"jpeg": NUM - 2, "png": 1, "": 1}
    assert f"{NUM - 2} JPEG, 1 PNG, 1 neither JPEG nor PNG" in str(report)
    assert "image_size=(20, 30)" in report.call


@pytest.mark.tf
def test_the_call_is_right_when_it_is_typed(tmp_path):
    path = write(tmp_path / "a.h5", pictures(sizes=((20, 30), (24, 16))), "padded")
    call = h5v.inspect(path).call
    dataset = eval(call, {"h5v": h5v})
    x = next(iter(dataset))
    assert x.shape == (1, NUM, 20, 30, 3)


def test_a_dataset_without_a_whole_picture_is_a_problem(tmp_path):
    path = write(tmp_path / "a.h5", [row[:40] for row in pictures()], "variable")
    report = h5v.inspect(path)
    assert report.datasets[0].path == "none"
    assert "no row that was looked at is a whole picture" in report.problems[0]


CALLS = {
    "aloha_compressed": 'x="observations/images/cam_high", y="action", {}, decode="image"',
    "robotwin": 'x="observation/head_camera/rgb", y=None, {}',
    "rdt_compressed": 'x="observations/images/cam_high", y="action", {}',
    "resnets_3d": 'x="video", y=None, {}',
    "minari": 'x="*/observations/pixels", y=None, {}',
    "robonet": None,  # a dataset a frame
    "sleap": 'x="*/video", y=None, {}',
    "sleap_io": 'x="*/video", y=None, {}, decode="image"',
}


@pytest.mark.parametrize("name", PICTURE_SCHEMAS)
def test_files_of_public_projects(tmp_path, name):
    path = PICTURE_SCHEMAS[name](tmp_path).paths[0]
    call = h5v.inspect(path).call
    if CALLS[name] is None:
        assert call is None
        return
    arguments = CALLS[name].format("windows=h5v.Windows(16)")
    assert call == f'h5v.video_dataset_from_hdf5("{path}", {arguments})'
    loader = eval(call.replace("video_dataset_from_hdf5", "VideoLoader"), {"h5v": h5v})
    x = next(iter(loader))
    assert (x[0] if isinstance(x, tuple) else x).shape[1:4] == (16, 24, 32)
