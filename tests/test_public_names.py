"""What is public: a change of these lists is a change for users."""

import inspect

import pytest

import h5video_data as h5v
from h5video_data.testing import write_video_file


def test_the_package_lists_its_public_names_only():
    assert dir(h5v) == [
        "Clip",
        "H5VideoError",
        "VideoLoader",
        "Windows",
        "callbacks",
        "channel_statistics",
        "errors",
        "inspect",
        "pack",
        "read_video",
        "repack",
        "samplers",
        "show",
        "split_samples",
        "testing",
        "transforms",
        "video_dataset_from_hdf5",
        "write_videos",
    ]


def test_a_loader_has_few_names(tmp_path):
    loader = h5v.VideoLoader(write_video_file(tmp_path / "a.h5"))
    loader.dataset()
    assert [name for name in dir(loader) if not name.startswith("_")] == [
        "batch_indices",
        "batch_size",
        "batches",
        "class_names",
        "close",
        "dataset",
        "describe_samples",
        "global_batch_size",
        "load_state_dict",
        "num_samples",
        "sample_indices",
        "samples_per_epoch",
        "save_index",
        "seed",
        "set_epoch",
        "skipped",
        "skipped_recordings",
        "state_at",
        "state_dict",
        "stats",
        "steps_per_epoch",
    ]


@pytest.mark.parametrize("name", h5v.__all__)
def test_a_public_function_says_what_it_returns(name):
    found = getattr(h5v, name)
    functions = [found] if inspect.isfunction(found) else []
    if inspect.isclass(found):
        functions = [
            item.fget if isinstance(item, property) else item
            for key, item in vars(found).items()
            if not key.startswith("_") and (inspect.isfunction(item) or isinstance(item, property))
        ]
    for function in functions:
        assert inspect.signature(function).return_annotation not in ("Any", inspect._empty)
