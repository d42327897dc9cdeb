"""The pipeline knows a stream of elements, and no loader: here is one without files."""

from types import SimpleNamespace

import numpy as np
import pytest

from h5video_data.options import LoaderOptions
from h5video_data.summary import ArraySpec
from h5video_data.tfdata.pipeline import make_dataset
from h5video_data.tfdata.stream import ElementStream, bundled_elements
from h5video_data.tfdata.timestamps import Timestamps

NUM_BATCHES, BATCH = 6, 2


def stream_of(epochs, released, **options):
    """Gives epochs of 6 batches of 2 numbers, two batches at a time."""

    def next_epoch():
        epochs.append(len(epochs))
        for begin in range(0, NUM_BATCHES * BATCH, 2 * BATCH):
            numbers = 100 * epochs[-1] + np.arange(begin, begin + 2 * BATCH)
            batch = SimpleNamespace(arrays=[numbers], stops=np.array([BATCH, 2 * BATCH]))
            yield SimpleNamespace(batch=batch, waited=0.25)

    return ElementStream(
        options=LoaderOptions(**options),
        num_threads=1,
        sample_specs=(ArraySpec((), np.dtype(np.int64)),),
        to_element=lambda values: {"number": values[0]},
        is_decoded=False,
        num_batches=NUM_BATCHES,
        static_batch_size=BATCH,
        num_elements=NUM_BATCHES,
        next_epoch=next_epoch,
        seeds_of=lambda bundle: np.stack([bundle.batch.arrays[0]] * 2, axis=1).astype(np.int32),
        describe=lambda spec: f"numbers of shape {spec['number'].shape}",
        pin_buffers=lambda _: None,
        release=lambda: released.append(True),
    )


def test_each_iterator_is_an_epoch():
    epochs, timestamps = [], Timestamps()
    dataset = make_dataset(stream_of(epochs, []), timestamps)
    assert dataset.cardinality() == NUM_BATCHES
    assert repr(dataset) == "numbers of shape (2,)"
    for epoch in range(2):
        found = [element["number"].tolist() for element in dataset.as_numpy_iterator()]
        assert found == [[100 * epoch + n, 100 * epoch + n + 1] for n in range(0, 12, 2)]
    assert len(epochs) == 2
    assert len(timestamps.arrived()) == len(timestamps.hand_overs) == 6  # two batches at a time
    assert len(timestamps.left()) == 12
    for asked, waited, given in timestamps.hand_overs:
        assert waited == 0.25
        assert asked <= given


def test_stages_that_take_seeds_get_those_of_their_samples():
    def with_seeds(element, *, seeds):
        return element["number"], seeds

    dataset = make_dataset(stream_of([], [], map_fn=with_seeds), Timestamps())
    for numbers, seeds in dataset.as_numpy_iterator():
        np.testing.assert_array_equal(seeds, np.stack([numbers, numbers], axis=1))


@pytest.mark.parametrize("with_seeds", [False, True])
def test_bundled_elements(with_seeds):
    bounds, element = next(bundled_elements(stream_of([], []), Timestamps(), with_seeds=with_seeds))
    assert bounds.tolist() == [[0, 2], [2, 4]]
    numbers = element[0]["number"] if with_seeds else element["number"]
    assert numbers.tolist() == [0, 1, 2, 3]


def test_the_stream_is_released_with_the_last_dataset():
    released = []
    dataset = make_dataset(stream_of([], released), Timestamps())
    mapped = dataset.map(lambda element: element["number"])
    del dataset
    assert not released
    del mapped
    assert released
