"""What x, y and sample_weight are given: arrays of labels, and strings as class numbers."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from conftest import Order, tf

from h5video_data import VideoLoader, samplers, split_samples, video_dataset_from_hdf5
from h5video_data.errors import FileFormatError, StateError
from h5video_data.opening import open_video_set
from h5video_data.opening.items import class_numbers
from h5video_data.set_values import component_values, read_values

NUM = 24
NUMBERS = np.arange(NUM)
NAMES = np.array(["walk", "run", "jump"])[NUMBERS % 3]  # classes 2, 1, 0
CLASSES = 2 - NUMBERS % 3


def write(path, *, first=0, num=NUM, count=None, **data):
    """X holds the sample's number."""
    with h5py.File(path, "w") as file:
        file["X"] = np.repeat(np.arange(first, first + num)[:, np.newaxis], 20, axis=1)
        for name, values in data.items():
            file[name] = values
        if count is not None:
            file.attrs["sample_count"] = count
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.h5", label=NAMES.astype("S"), Y=NUMBERS % 4)


@pytest.fixture
def three(tmp_path):
    """Three files of 10, 6 and 8 samples, of more rows."""
    return [
        write(tmp_path / f"{i}.h5", first=first, num=num + i, count=num)
        for i, (first, num) in enumerate([(0, 10), (10, 6), (16, 8)])
    ]


class Series:
    """What pandas' Series is to NumPy."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


ARRAYS = {
    "array": NUMBERS * 3,
    "big-endian": (NUMBERS * 3).astype(">i2"),
    "one-hot": np.eye(NUM, dtype=np.float32),
    "column": NUMBERS[:, np.newaxis] * 3.0,
    "masks": np.arange(NUM * 6).reshape(NUM, 2, 3)[:, ::-1],
    "bool": NUMBERS % 2 == 0,
    "list": [3.5 * number for number in range(NUM)],
    "series": Series(NUMBERS * 3),
}


@pytest.mark.parametrize("labels", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("order", [NUMBERS[::-1], [5, 5, 0, 23]], ids=["all", "some"])
def test_arrays_are_labels(path, labels, order):
    loader = VideoLoader(path, y=labels, shuffle=Order(order), batch_size=3)
    batches = list(loader)
    expected = np.asarray(labels)[np.asarray(order)]
    y = np.concatenate([batch for _, batch in batches])
    np.testing.assert_array_equal(y, expected)
    assert y.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches])[:, 0], order)


def test_arrays_are_in_the_order_of_the_samples_in_use(three):
    loader = VideoLoader(three, y=NUMBERS * 2, sample_weight=NUMBERS / 2, batch_size=5, seed=1)
    for x, y, weight in loader:
        np.testing.assert_array_equal(y, x[:, 0] * 2)
        np.testing.assert_array_equal(weight, x[:, 0] / 2)


def test_arrays_and_names_in_dicts(path):
    mask = np.arange(NUM * 4.0).reshape(NUM, 4)
    loader = VideoLoader(
        path,
        y={"verb": NAMES, "noun": "Y", "name": "label"},
        sample_weight={"verb": NUMBERS, "noun": mask},
        shuffle=Order([7, 2]),
    )
    ((_, y, weight),) = loader
    assert {key: value.tolist() for key, value in y.items()} == {
        "verb": [1, 0],
        "noun": [3, 2],
        "name": [1, 0],
    }
    assert weight["verb"].tolist() == [7, 2]
    np.testing.assert_array_equal(weight["noun"], mask[[7, 2]])


def test_tensors_are_labels(path):
    ((_, y),) = VideoLoader(path, y=tf.constant(NUMBERS * 3), shuffle=Order([5, 1]))
    assert y.tolist() == [15, 3]


def test_later_changes_of_an_array_do_not_count(path):
    labels = NUMBERS.copy()
    loader = VideoLoader(path, y=labels, shuffle=False)
    labels[:] = 0
    ((_, y),) = loader
    np.testing.assert_array_equal(y, NUMBERS)


def test_weights_of_any_shape(tmp_path):
    weights = np.random.default_rng(0).random((NUM, 2, 3)).astype(np.float32)
    path = write(tmp_path / "a.h5", Y=NUMBERS, W=weights)
    for given in ("W", weights):
        ((_, _, found),) = VideoLoader(path, sample_weight=given, shuffle=Order([4, 1]))
        np.testing.assert_array_equal(found, weights[[4, 1]])


# --------------------------------------------------------------------------- strings

STRINGS = {
    "fixed": NAMES.astype("S"),
    "variable": NAMES.astype(object),
    "padded": NAMES.astype("S20"),
}


@pytest.mark.parametrize("names", STRINGS.values(), ids=STRINGS)
def test_strings_are_class_numbers_in_the_order_of_the_sorted_names(tmp_path, names):
    path = write(tmp_path / "a.h5", label=names)
    for y in ("label", names, Series(names)):
        loader = VideoLoader(path, y=y, shuffle=Order(NUMBERS[::-1]), batch_size=NUM)
        ((_, found),) = loader
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, CLASSES[::-1])
        assert loader._set.class_names == ("jump", "run", "walk")


@pytest.mark.skipif(np.__version__ < "2", reason="StringDType is new in NumPy 2")
def test_strings_of_numpys_own_kind(path):
    names = NAMES.astype(np.dtypes.StringDType())
    ((_, found),) = VideoLoader(path, y=names, shuffle=False)
    np.testing.assert_array_equal(found, CLASSES)


def test_strings_of_several_files_are_numbered_together(tmp_path):
    paths = [
        write(tmp_path / "0.h5", num=3, label=[b"b", b"", b"d"]),
        write(tmp_path / "1.h5", num=4, count=2, label=np.array(["ü", "b", "a", "z"], object)),
    ]
    loader = VideoLoader(paths, y="label", shuffle=False)
    ((_, y),) = loader
    assert loader._set.class_names == ("", "b", "d", "ü")  # "a" and "z" are not in use
    assert y.tolist() == [1, 0, 2, 3, 1]


def test_strings_of_several_dimensions(tmp_path):
    path = write(tmp_path / "a.h5", label=NAMES.reshape(-1, 1).astype("S"))
    ((_, y),) = VideoLoader(path, y="label", shuffle=False)
    np.testing.assert_array_equal(y, CLASSES[:, np.newaxis])


@pytest.mark.parametrize("y", ["label", NAMES], ids=["dataset", "array"])
def test_the_attribute_class_names_gives_the_order(path, y):
    with h5py.File(path, "a") as file:
        file.attrs["class_names"] = ["walk", "sit", "run", "jump"]
    loader = VideoLoader(path, y=y, shuffle=Order([0, 1, 2]))
    ((_, found),) = loader
    assert found.tolist() == [0, 2, 3]
    assert loader._set.class_names == ("walk", "sit", "run", "jump")


def test_class_names_that_lack_some(path):
    with h5py.File(path, "a") as file:
        file.attrs["class_names"] = ["walk", "sit"]
    with pytest.raises(
        FileFormatError, match=r"'label' must all .* \['jump', 'run'\], and class_n"
    ):
        VideoLoader(path, y="label")
    # Those of other labels, or of one's own.
    assert VideoLoader(path, y=NAMES)._set.class_names == ("jump", "run", "walk")
    with h5py.File(path, "a") as file:
        file.attrs["class_names"] = ["cat", "dog"]
    assert VideoLoader(path, y="label")._set.class_names == ("jump", "run", "walk")


def test_class_numbers():
    strings = np.array([["b", "a"], ["c", "b"]], object)
    numbers, names = class_numbers(strings, None, "Y", is_strict=True)
    assert (numbers.tolist(), names) == ([[1, 0], [2, 1]], ("a", "b", "c"))
    twice = ("b", "a", "c", "a")  # numbers could not be told apart
    numbers, names = class_numbers(strings, twice, "Y", is_strict=True)
    assert (numbers.tolist(), names) == ([[1, 0], [2, 1]], ("a", "b", "c"))


def test_values_of_strings_and_arrays(path):
    opened = open_video_set(path, "X", {"a": "label", "b": NAMES, "c": "Y", "d": NUMBERS})
    found = {item.name: component_values(item) for item in opened.components[1:]}
    np.testing.assert_array_equal(found["label"], CLASSES)
    np.testing.assert_array_equal(found["y['b'] (array)"], CLASSES)
    np.testing.assert_array_equal(found["Y"], NUMBERS % 4)
    np.testing.assert_array_equal(found["y['d'] (array)"], NUMBERS)
    assert read_values(open_video_set(path), "label").tolist() == NAMES.astype("S").tolist()


@pytest.mark.parametrize(
    "labels",
    ["label", NAMES, CLASSES, CLASSES[:, np.newaxis], CLASSES * 1.0, CLASSES[:, np.newaxis] * 1.0],
    ids=["strings", "array of strings", "numbers", "column", "floats", "column of floats"],
)
def test_a_split_in_the_same_proportion(path, labels):
    training, validation = split_samples(path, 0.25, split_by="label", y=labels)
    assert np.bincount(CLASSES[validation]).tolist() == [2, 2, 2]
    assert np.bincount(CLASSES[training]).tolist() == [6, 6, 6]
    values = component_values(open_video_set(path, "X", labels).components[1])
    sampler = samplers.BalancedSampler(values[training], seed=0, num_samples=3000)
    drawn = np.bincount(CLASSES[training][sampler.epoch(0)])
    assert drawn.min() > 900


# --------------------------------------------------------------------------- states


def test_an_epoch_goes_on_with_arrays_and_strings(three):
    labels = {"a": NUMBERS * 5, "b": NAMES}

    def loader(**options):
        return VideoLoader(three, batch_size=5, seed=2, **{"y": labels, **options})

    whole = list(loader())
    resumed = loader()
    resumed.load_state_dict(loader().state_dict(epoch=0, step=2))
    for (x, y), (x_then, y_then) in zip(resumed, whole[2:], strict=True):
        np.testing.assert_array_equal(x, x_then)
        np.testing.assert_array_equal(y["a"], x[:, 0] * 5)
        np.testing.assert_array_equal(y["b"], CLASSES[x[:, 0]])
        np.testing.assert_array_equal(y["a"], y_then["a"])


@pytest.mark.parametrize("change", [{"a": NUMBERS * 6}, {"b": NAMES[::-1]}], ids=["a", "b"])
def test_a_state_of_other_arrays(three, change):
    labels = {"a": NUMBERS * 5, "b": NAMES}
    state = VideoLoader(three, seed=2, y=labels).state_dict(epoch=0, step=0)
    with pytest.raises(StateError, match="the samples themselves"):
        VideoLoader(three, seed=2, y={**labels, **change}).load_state_dict(state)


# --------------------------------------------------------------------------- datasets


def gather(dataset):
    return map(np.concatenate, zip(*dataset.as_numpy_iterator(), strict=True))


@pytest.mark.parametrize("kind", ["dataset", "array", "tensor"])
def test_datasets_of_both_sides(path, kind):
    y = {"dataset": "label", "array": NAMES, "tensor": tf.constant(NAMES.tolist())}[kind]
    sides = video_dataset_from_hdf5(
        path, y=y, batch_size=4, validation_split=0.25, subset="both", seed=1, split_by="label"
    )
    numbers = []
    for side in sides:
        assert side.class_names == ["jump", "run", "walk"]
        assert side.element_spec[1].dtype == tf.int32
        for _ in range(2):
            x, found = gather(side)
            np.testing.assert_array_equal(found, CLASSES[x[:, 0]])
        numbers += x[:, 0].tolist()
    assert sorted(numbers) == NUMBERS.tolist()


def test_repeated_single_samples_of_several_files(three):
    dataset = video_dataset_from_hdf5(
        three, y=NAMES, sample_weight=NUMBERS, batch_size=None, seed=1
    )
    found = [(int(x[0]), int(y), int(w)) for x, y, w in dataset.repeat(2).as_numpy_iterator()]
    assert len(found) == 2 * NUM
    assert {(x, w) for x, _, w in found} == {(i, i) for i in range(NUM)}
    assert all(CLASSES[x] == y for x, y, _ in found)


def test_shards_of_two_workers(three):
    found = []
    for worker in range(2):
        context = tf.distribute.InputContext(2, worker, 2)
        dataset = video_dataset_from_hdf5(
            three, y=NAMES, sample_weight=NUMBERS, batch_size=4, seed=1, input_context=context
        )
        x, y, weight = gather(dataset)
        np.testing.assert_array_equal(y, CLASSES[x[:, 0]])
        np.testing.assert_array_equal(weight, x[:, 0])
        found += x[:, 0].tolist()
    assert sorted(found) == NUMBERS.tolist()


def test_a_sample_that_is_skipped_takes_its_label_along(tmp_path):
    rows = np.repeat(NUMBERS[:, np.newaxis], 3000, axis=1)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=rows, chunks=(1, 3000), compression="gzip", fletcher32=True)
        offset = file["X"].id.get_chunk_info(7).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(offset + 12)
        raw.write(b"\xff" * 8)
    loader = VideoLoader(path, y=NAMES, on_error="skip", batch_size=5, seed=0)
    batches = list(loader)
    assert list(loader.skipped) == [7]
    assert sum(len(x) for x, _ in batches) == NUM - 1
    for x, y in batches:
        np.testing.assert_array_equal(y, CLASSES[x[:, 0]])
