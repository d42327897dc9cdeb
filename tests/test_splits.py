"""Training and validation: no sample on both sides, and the fractions kept."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data import split_samples, splits, testing
from h5video_data.errors import ArgumentError, FileFormatError
from h5video_data.loader import VideoLoader
from h5video_data.samplers import ShuffleSampler
from h5video_data.sampling.split_indices import split_indices

pytestmark = pytest.mark.memory_limit(64)  # the small samples of these tests are read


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5", num_samples=60)


@settings(max_examples=60, deadline=None)
@given(
    num_samples=st.integers(2, 60),
    fraction=st.floats(0.02, 0.98),
    seed=st.integers(0, 2**40) | st.none(),
    by=st.sampled_from([None, "label", "group", "number", "array"]),
)
def test_split_samples(sizes, num_samples, fraction, seed, by):
    split_by = [str(i // 4) for i in range(num_samples)] if by == "array" else by
    options = {"seed": seed, "split_by": split_by}
    try:
        training, validation = split_samples(sizes(num_samples), fraction, **options)
    except ArgumentError as error:
        with pytest.raises(ArgumentError, match=r"would be empty|two different ids or more"):
            raise error
        assert by == "array" or int(fraction * num_samples) == 0
        return
    assert sorted([*training, *validation]) == list(range(num_samples))
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()
    again = split_samples(sizes(num_samples), fraction, **options)
    np.testing.assert_array_equal(again[1], validation)
    if by in (None, "label"):
        assert len(validation) == int(fraction * num_samples)
    if by == "label":
        for label in range(3):
            share = (validation % 3 == label).sum()
            assert abs(share - fraction * (np.arange(num_samples) % 3 == label).sum()) < 1
    if by in ("group", "number"):
        assert not set(training % 7) & set(validation % 7)
    if by == "array":
        assert not set(training // 4) & set(validation // 4)


def test_seeds_give_other_splits(sizes):
    splits = {tuple(split_samples(sizes(50), 0.3, seed=seed)[1]) for seed in range(20)}
    assert len(splits) == 20


def test_a_split_is_the_same_for_every_order(sizes):
    options = {"validation_split": 0.3, "seed": 4, "subset": "validation"}
    expected = split_samples(sizes(50), 0.3, seed=4)[1]
    for shuffle in (True, False):
        loader = VideoLoader(sizes(50), shuffle=shuffle, **options)
        np.testing.assert_array_equal(loader.sample_indices, expected)


def test_the_remainder_goes_to_the_class_that_lost_most_in_rounding(tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["X"] = np.zeros((9, 3))
        file["Y"] = [0] * 2 + [1] * 7  # a quarter: 0.5 and 1.75
    _, validation = split_samples(tmp_path / "set.h5", 0.25, seed=3, split_by="label")
    assert len(validation) == 2
    assert (validation >= 2).all()


def test_groups_over_several_files(sizes):
    paths = [sizes(10), sizes(20)]
    training, validation = split_samples(paths, 0.4, seed=1, split_by="group")
    groups = np.concatenate([np.arange(10), np.arange(20)]) % 7
    assert not set(groups[training]) & set(groups[validation])
    assert len(training) + len(validation) == 30


def test_class_numbers_in_a_column_are_stratified(tmp_path):
    # (samples, 1) is how many tools write class numbers.
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["X"] = np.zeros((40, 3))
        file["Y"] = np.repeat([1, 2], 20)[:, np.newaxis]
        file["double"] = np.repeat([1.0, 2.0], 20)[:, np.newaxis]
        file["subject"] = np.arange(40)[:, np.newaxis] // 4
    for y in ("Y", "double"):
        _, validation = split_samples(tmp_path / "set.h5", 0.5, seed=3, split_by="label", y=y)
        assert (validation < 20).sum() == 10
    # So are the ids of groups.
    training, validation = split_samples(tmp_path / "set.h5", 0.3, seed=3, split_by="subject")
    assert len(validation) == 12
    assert not set(training // 4) & set(validation // 4)


def test_groups_of_what_is_no_group(tmp_path):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=20)
    with h5py.File(path, "r+") as file:
        file["class"] = np.arange(20) % 4
        file["subject"] = np.arange(20) // 4

    def split(split_by, **names):
        return split_samples(path, 0.3, seed=0, split_by=split_by, **names)

    for y, split_by in (("class", "class"), ("class", "/class"), ("/class", "class"), ("Y", "Y")):
        with pytest.raises(ArgumentError, match=r"each class.*Use split_by=\"label\".*Received"):
            split(split_by, y=y)
    for x in ("X", {"a": "X"}):
        with pytest.raises(ArgumentError, match=r"group ids, of shape \(samples,\)\. Received"):
            split("X", x=x)
    # Classes may be kept apart on purpose; one of several outputs may say what belongs together.
    training, validation = split(np.arange(20) % 4, y="class")
    assert not set(training % 4) & set(validation % 4)
    training, validation = split("subject", y={"class": "class", "subject": "subject"})
    assert not set(training // 4) & set(validation // 4)
    with pytest.raises(ArgumentError, match=r"float64 labels .* not all of them whole"):
        split_indices(4, 0.5, labels=np.array([0, 1, np.inf, np.nan]))


# --------------------------------------------------------------------------- a choice of samples


@settings(max_examples=40, deadline=None)
@given(data=st.data(), by=st.sampled_from([{}, {"split_by": "group"}, {"stratify_by": "number"}]))
def test_a_split_divides_the_chosen_samples(sizes, data, by):
    chosen = data.draw(st.permutations(range(60)))[:40]
    training, validation = split_samples(sizes(60), 0.3, seed=2, indices=chosen, **by)
    assert sorted([*training, *validation]) == sorted(chosen)
    for side in (training, validation):  # in the order that was given
        assert side.tolist() == [number for number in chosen if number in set(side.tolist())]
    # Which samples are on which side does not depend on that order.
    mask = np.isin(np.arange(60), chosen)
    again = split_samples(sizes(60), 0.3, seed=2, indices=mask, **by)
    assert again[1].tolist() == sorted(validation.tolist())
    if "split_by" in by:
        assert not set(training % 7) & set(validation % 7)
    if "stratify_by" in by:
        for number in range(7):
            total = (np.array(chosen) % 7 == number).sum()
            assert abs((validation % 7 == number).sum() - 0.3 * total) < 1


def test_all_samples_are_split_as_without_a_choice(sizes):
    for by in ({}, {"split_by": "label"}, {"split_by": "group"}, {"stratify_by": "Y"}):
        found = split_samples(sizes(50), 0.3, seed=4, indices=range(50), **by)
        expected = split_samples(sizes(50), 0.3, seed=4, **by)
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("argument", ["split_by", "stratify_by"])
def test_an_array_is_of_all_samples_of_the_files(sizes, argument):
    values = np.arange(60) // 6
    training, validation = split_samples(
        sizes(60), 0.5, seed=0, indices=range(12, 60), **{argument: values}
    )
    shared = set(values[training]) & set(values[validation])
    assert len(shared) == (0 if argument == "split_by" else 8)
    with pytest.raises(ArgumentError, match=r"each of the 60 samples.*`indices` leaves out.*48"):
        split_samples(sizes(60), 0.5, seed=0, indices=range(12, 60), **{argument: values[12:]})


@pytest.mark.parametrize("argument", ["split_by", "stratify_by"])
def test_masked_values_are_none(sizes, argument):
    values = np.ma.array(np.arange(60) // 6, mask=np.arange(60) == 7)
    with pytest.raises(ArgumentError, match="must have no masked values"):
        split_samples(sizes(60), 0.5, seed=0, **{argument: values})


def test_leave_one_subject_out(sizes):
    """A mask is a choice for loaders, of both kinds, whose order is that of `shuffle`."""
    subject = np.arange(60) // 10
    train = VideoLoader(sizes(60), indices=subject != 3, seed=0)
    val = VideoLoader(sizes(60), indices=subject == 3, shuffle=False)
    assert val.sample_indices.tolist() == list(range(30, 40))
    order = train.batch_indices(epoch=0, step=0)
    assert order.tolist() == train.sample_indices[ShuffleSampler(50, seed=0).epoch(0)[:32]].tolist()
    assert not set(order) & set(val.sample_indices)


# --------------------------------------------------------------------------- stratified


def test_each_class_of_anything_in_the_same_proportion(tmp_path):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=40)
    verb, noun = np.arange(40) % 2, np.arange(40) // 8
    with h5py.File(path, "r+") as file:
        file["verb"], file["noun"] = verb, noun.astype("f4")
        file["word"] = [f"w{number}" for number in noun]
        file["hot"] = np.eye(5)[noun]
    names = {"verb": "verb", "noun": "noun"}
    for by in ("noun", "/noun", "word", "hot", noun, noun.tolist(), [f"w{n}" for n in noun]):
        for y in (names, None, "Y", "noun"):
            _, validation = split_samples(path, 0.25, seed=1, stratify_by=by, y=y)
            assert np.bincount(noun[validation]).tolist() == [2] * 5
    _, validation = split_samples(path, 0.25, seed=1, stratify_by="verb", y=names)
    assert np.bincount(verb[validation]).tolist() == [5, 5]
    # The labels are split as by split_by="label".
    expected = split_samples(path, 0.25, seed=1, split_by="label")[1]
    np.testing.assert_array_equal(split_samples(path, 0.25, seed=1, stratify_by="Y")[1], expected)


def test_what_no_split_can_be_stratified_by(tmp_path):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=20)
    with pytest.raises(ArgumentError, match="exclude each other: groups that stay whole"):
        split_samples(path, 0.5, split_by=np.arange(20), stratify_by="Y")
    with pytest.raises(ArgumentError, match="exclude each other"):
        VideoLoader(
            path, validation_split=0.5, subset="training", seed=0, split_by="label", stratify_by="Y"
        )
    for x in ("X", {"a": "X"}):
        with pytest.raises(ArgumentError, match=r"`stratify_by` must be the name.* of classes"):
            split_samples(path, 0.5, stratify_by="X", x=x)


def test_several_strings_a_sample_are_no_class(tmp_path):
    """Their class numbers may look like one-hot labels."""
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=20)
    with h5py.File(path, "r+") as file:
        file["words"] = [[b"a", b"b"], [b"b", b"a"]] * 10
    for options in ({"split_by": "label"}, {"stratify_by": "words"}):
        with pytest.raises(ArgumentError, match=r"samples of shape \(2,\)"):
            split_samples(path, 0.5, y="words", **options)
    with pytest.raises(ArgumentError, match=r"samples of shape \(2,\)"):
        VideoLoader(path, y="words", shuffle="balanced")


def test_masks_are_not_read_for_a_split(tmp_path, monkeypatch):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=20)
    with h5py.File(path, "r+") as file:
        file["mask"] = np.zeros((20, 4, 4), np.uint8)
    monkeypatch.setattr(splits, "component_values", None)
    with pytest.raises(ArgumentError, match=r'split_by="label" needs.*`stratify_by`.*\(4, 4\)'):
        split_samples(path, 0.5, split_by="label", y="mask")
    for options in ({"y": "mask"}, {"y": {"a": "mask", "b": "Y"}}):
        with pytest.raises(ArgumentError, match=r"a dataset of classes.*samples of shape \(4, 4\)"):
            split_samples(path, 0.5, stratify_by="mask", **options)
    with pytest.raises(ArgumentError, match=r'"balanced" needs.* a BalancedSampler.*\(4, 4\)'):
        VideoLoader(path, shuffle="balanced", y="mask")


@pytest.mark.parametrize(
    "options",
    [
        {"indices": [0, 1]},
        {"indices": range(12), "validation_split": 0.5, "split_by": np.arange(12) % 2},
        {"indices": range(12), "validation_split": 0.5, "stratify_by": np.arange(12) % 2},
    ],
)
def test_numbers_of_samples_need_paths_in_an_order(tmp_path, options):
    for name in "ab":
        testing.write_video_file(tmp_path / f"{name}.h5", num_samples=6)
    split = {"subset": "training", "seed": 0} if "validation_split" in options else {}
    with pytest.raises(ArgumentError, match="which has no order: its 2 paths are sorted"):
        VideoLoader(tmp_path.glob("*.h5"), **options, **split)
    assert VideoLoader(sorted(tmp_path.glob("*.h5")), **options, **split).num_samples in (2, 6)
    options.pop("validation_split", None)
    with pytest.raises(ArgumentError, match="which has no order"):
        split_samples(tmp_path.glob("*.h5"), 0.5, **options)


# Datasets that are longer than the samples, and names with paths


def write_longer(folder, count=None, extra=5):
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        file["X"] = np.zeros((10, 2, 3), np.uint8)
        file["Y"] = np.arange(10) % 2
        file["id"] = np.arange(10 + extra) // 2
        if count is not None:
            file.attrs["sample_count"] = count
    return str(path)


@pytest.mark.parametrize("argument", ["split_by", "stratify_by"])
def test_a_longer_dataset_is_not_cut_silently(tmp_path, argument):
    path = write_longer(tmp_path)
    for name in ("id", f"{path}:id"):
        with pytest.raises(FileFormatError, match=r"10 samples.*(15,|15 rows)"):
            split_samples(path, 0.3, **{argument: name})
    for count in (10, 8):
        path = write_longer(tmp_path, count)
        for name in ("id", f"{path}:id"):
            training, validation = split_samples(path, 0.3, **{argument: name})
            assert sorted([*training, *validation]) == list(range(count))


def test_ids_that_are_the_labels_are_found_by_their_file_too(tmp_path, monkeypatch):
    path = write_longer(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("Y", "/Y", f"{path}:Y", "a.h5:Y", "./a.h5:/Y", "*.h5:Y"):
        with pytest.raises(ArgumentError, match="`split_by` must not be the labels"):
            split_samples(path, 0.3, split_by=name)


def test_a_name_with_a_colon_beside_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file["X:1"] = np.arange(40, dtype=np.uint8).reshape(10, 4)
        file["Z"] = np.zeros((10, 4))
        file["Y"] = np.arange(10)
    (tmp_path / "X").write_text("no HDF5 file")
    both = r"is a dataset of .*a.h5, and may be '1' of the file 'X'. Write '/X:1'"
    with pytest.raises(ArgumentError, match=both):
        VideoLoader("a.h5", x="X:1")
    with VideoLoader("a.h5", x="/X:1", shuffle=False) as loader:
        np.testing.assert_array_equal(loader[0][0], np.arange(40).reshape(10, 4))
    with pytest.raises(ArgumentError, match=both):
        split_samples("a.h5", 0.3, x="Z", stratify_by="X:1")
    (tmp_path / "X").unlink()
    with VideoLoader("a.h5", x="X:1", shuffle=False) as loader:
        np.testing.assert_array_equal(loader[0][0], np.arange(40).reshape(10, 4))


@pytest.mark.parametrize(
    ("labels", "counts"),
    [
        (np.eye(3)[[0, 1, 1, 2]], (("0", 1), ("1", 2), ("2", 1))),
        (np.array([[1], [5], [1], [7]]), (("1", 2), ("5", 1), ("7", 1))),
        (np.array([True, False, True, True]), (("False", 1), ("True", 3))),
        (np.full((4, 3), 0.25), ()),
        (np.arange(4) / 2, ()),
        (np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]]), (("0", 2), ("1", 2), ("2", 0))),
        (np.eye(1001)[:4], ()),
    ],
    ids=["one-hot", "a column", "bool", "probabilities", "numbers", "several", "too many"],
)
def test_samples_of_each_class(tmp_path, labels, counts):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["Y"] = np.zeros((4, 2, 4, 4, 3), np.uint8), labels
    loader = VideoLoader(tmp_path / "a.h5")
    found = splits.class_counts(loader._set, loader.sample_indices)
    assert tuple((str(name), count) for name, count in found) == counts
    unlabelled = VideoLoader(tmp_path / "a.h5", y=None)
    assert splits.class_counts(unlabelled._set, unlabelled.sample_indices) == ()
