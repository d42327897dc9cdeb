"""What a saved state belongs to: the same samples, however they are stored."""

import h5py
import numpy as np
import pytest

from h5video_data import Clip, VideoLoader
from h5video_data.errors import StateError
from h5video_data.testing import write_video_file

SHAPE = (4, 1, 4, 4)


@pytest.fixture
def path(tmp_path):
    return write_video_file(tmp_path / "a.h5", num_samples=50, sample_shape=SHAPE)


def test_the_files_may_lie_elsewhere_and_be_stored_otherwise(tmp_path, path):
    state = VideoLoader(path, batch_size=8, seed=1).state_dict(epoch=1, step=2)
    packed = write_video_file(
        tmp_path / "elsewhere.h5",
        num_samples=50,
        sample_shape=SHAPE,
        chunks=(1, *SHAPE),
        compression="gzip",
    )
    parts = [
        write_video_file(tmp_path / f"{i}.h5", num_samples=25, first=25 * i, sample_shape=SHAPE)
        for i in range(2)
    ]
    for where in (packed, parts):
        VideoLoader(where, batch_size=8, seed=1).load_state_dict(state)


@pytest.mark.parametrize("labels", [np.arange(20), np.eye(20), np.arange(20)[:, None]], ids=np.ndim)
def test_the_byte_order_of_labels_does_not_count(tmp_path, labels):
    states = []
    for order in "<>":
        path = write_video_file(tmp_path / "a.h5", num_samples=20)
        with h5py.File(path, "a") as file:
            file["other"] = labels.astype(f"{order}i4")
        with VideoLoader(path, y="other", seed=0) as loader:
            states.append(loader.state_dict(epoch=0, step=0))
    assert states[0] == states[1]


def test_array_types_have_the_state_of_the_same_numbers(tmp_path):
    data, states = np.arange(120, dtype=">i4").reshape(20, 2, 3), []
    for shape in ((2, 3), ()):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            dtype = np.dtype((">i4", shape)) if shape else "<i4"
            file.create_dataset("X", (20, 2, 3)[: 1 if shape else 3], dtype)[...] = data
        with VideoLoader(tmp_path / "a.h5", y=None, seed=0) as loader:
            states.append(loader.state_dict(epoch=0, step=0))
    assert states[0] == states[1]


def test_another_set_split_or_order_is_an_error_that_says_so(tmp_path, path):
    saved = VideoLoader(path, batch_size=8, seed=1).state_dict(epoch=1, step=2)

    def load(where=path, **options):
        VideoLoader(where, **{"batch_size": 8, "seed": 1, **options}).load_state_dict(saved)

    load()
    longer = write_video_file(tmp_path / "longer.h5", num_samples=51, sample_shape=SHAPE)
    with pytest.raises(StateError, match="number of samples: 50 then, 51 now"):
        load(longer)
    changed = write_video_file(tmp_path / "changed.h5", num_samples=50, sample_shape=SHAPE)
    with h5py.File(changed, "r+") as file:
        file["X"][49, 0, 0, 0, 0] += 1
    with pytest.raises(StateError, match="the samples themselves: "):
        load(changed)
    with pytest.raises(StateError, match="shapes or dtypes"):
        load(y=None)
    with pytest.raises(StateError, match=r"which samples are used .*; the order of the epoch"):
        load(validation_split=0.2, subset="training")
    for options in ({"seed": 2}, {"shuffle": False}, {"shuffle": "blocks"}):
        with pytest.raises(StateError, match=r"or another order\. the order of the"):
            load(**options)
    with pytest.raises(StateError, match=r"the clip: None then, \[2, 1, 'random'\] now"):
        load(clip=Clip(2))
