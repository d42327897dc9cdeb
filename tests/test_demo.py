"""Parts of the demonstration; the whole of it is run on the wheel, in .ci/check_wheel."""

import itertools

import h5py
import numpy as np
import pytest

from h5video_data.errors import MissingDependencyError
from h5video_data.testing import sample_values, write_video_file
from h5video_data.tools import demo

NUM = demo.BATCH_SIZE + 5


@pytest.fixture
def path(tmp_path):
    path = write_video_file(tmp_path / "films.h5", num_samples=NUM)
    with h5py.File(path, "a") as file:
        file["source"] = [f"film {i}" for i in range(NUM)]
    return tmp_path / "films.h5"


def test_the_films_are_there():
    for film in demo.FILMS.values():
        assert demo.film_path(film).stat().st_size > 100_000


def test_a_film_that_is_not_installed():
    with pytest.raises(MissingDependencyError, match=r"none\.mp4 .* pip install"):
        demo.film_path("none")


def test_the_generator_that_is_compared_with_gives_every_sample_once_an_epoch(path):
    epochs = demo._plain_generator(str(path))
    for _ in range(2):
        samples = np.concatenate([x for x, _ in itertools.islice(epochs, 2)])
        expected = sample_values(np.arange(NUM))
        assert sorted(x.tobytes() for x in samples) == sorted(x.tobytes() for x in expected)
