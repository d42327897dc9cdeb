"""`mixup` and `cutmix` against NumPy: ratios, partners, labels and weights."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import tensorflow as tf
from transform_helpers import (
    call,
    correlation,
    data_formats,
    dtypes,
    make_seeds,
    noise,
)

import h5video_data as h5v
from h5video_data.errors import ArgumentError
from h5video_data.transforms import cutmix, mixup

NUM = 40
SHAPE = (NUM, 2, 3, 6, 9)
both = pytest.mark.parametrize("make", [mixup, cutmix], ids=["mixup", "cutmix"])


def partners_and_ratios(labels):
    """Partners (n,) and kept ratios (n,), from labels that say which samples are in them."""
    ratios = np.diag(labels).copy()
    others = labels - np.diag(ratios)
    assert ((others > 0).sum(axis=1) <= 1).all()
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    return np.where(others.any(axis=1), others.argmax(axis=1), -1), ratios


def run(function, clips, data_format="channels_first", seeds=None):
    """The mixed clips, their partners and ratios."""
    count = len(clips)
    seeds = make_seeds(count) if seeds is None else seeds
    given = clips if data_format == "channels_first" else clips.transpose(0, 1, 3, 4, 2)
    x, y = function(tf.constant(given), tf.eye(count, dtype=tf.float64), seeds=seeds)
    x = x.numpy() if data_format == "channels_first" else x.numpy().transpose(0, 1, 4, 2, 3)
    return x, *partners_and_ratios(y.numpy())


@dtypes
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5])
def test_mixup(dtype, alpha):
    clips = noise(SHAPE, dtype)
    result, partners, ratios = run(mixup(alpha), clips)
    assert result.dtype == dtype
    ratio = ratios[:, None, None, None, None]
    expected = ratio * clips.astype(float) + (1 - ratio) * clips[partners].astype(float)
    atol = {"float32": 1e-6, "float16": 1e-3}.get(dtype, 0.51)  # rounded to the nearest
    np.testing.assert_allclose(result.astype(float), expected, atol=atol)
    assert 0.3 < ratios.mean() < 0.7
    extreme = {0.2: 0.7, 1.0: 0.2, 5: 0.0}[alpha]
    assert (abs(ratios - 0.5) > 0.4).mean() == pytest.approx(extreme, abs=0.2)


@data_formats
@dtypes
def test_cutmix(data_format, dtype):
    clips = noise((NUM, 2, 3, 20, 30), dtype)
    # No two samples have the same value anywhere, so that pixels tell where they are from.
    clips = (np.arange(NUM)[:, None, None, None, None] + np.zeros(clips.shape)).astype(dtype)
    result, partners, ratios = run(cutmix(data_format=data_format), clips, data_format)
    assert result.dtype == dtype
    own = result == clips
    assert (own == own[:, :1, :1]).all()  # the same box in all frames and channels
    foreign = ~own[:, 0, 0]
    np.testing.assert_allclose(1 - foreign.mean(axis=(1, 2)), ratios, atol=1e-6)
    tops, lefts = set(), set()
    for number in np.flatnonzero(foreign.any(axis=(1, 2))):
        rows, columns = (np.flatnonzero(foreign[number].any(axis=axis)) for axis in (1, 0))
        box = np.s_[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_array_equal(result[number][box], clips[partners[number]][box])
        assert foreign[number].sum() == len(rows) * len(columns)
        assert abs(len(columns) - len(rows) * 1.5) < 2  # of the shape of the frame
        tops.add(rows[0])
        lefts.add(columns[0])
    assert len(tops) > 5
    assert len(lefts) > 5
    assert ratios.std() > 0.2


def test_all_of_a_sample_may_be_replaced():
    # Shares from Beta(0.01, 0.01) are almost all 0 or 1.
    clips = noise(SHAPE)
    result, partners, ratios = run(cutmix(0.01), clips)
    whole, untouched = ratios < 1e-9, partners == -1
    assert whole.sum() > 10
    assert untouched.sum() > 10
    np.testing.assert_array_equal(result[whole], clips[partners[whole]])
    np.testing.assert_array_equal(result[untouched], clips[untouched])


def test_shares_and_boxes_are_uniform_and_independent():
    num = 3000
    clips = np.zeros((num, 1, 1, 40, 40), np.float32)
    seeds = make_seeds(num)
    weights = tf.range(num, dtype=tf.float64)
    labels = tf.zeros((num, 1), tf.float64)
    # Weights tell the ratios: of the own number and the partner's.
    _, _, mixed = mixup(1)(tf.constant(clips), labels, weights, seeds=seeds)
    marked = np.arange(num, dtype=np.float32)[:, None, None, None, None] + clips + 1
    result, *_ = cutmix(1)(tf.constant(marked), labels, weights, seeds=seeds)
    foreign = (result.numpy() != marked)[:, 0, 0]
    areas = foreign.mean(axis=(1, 2))
    counts = np.histogram(areas, bins=5, range=(0, 1))[0]
    assert counts == pytest.approx([num / 5] * 5, rel=0.2)
    some = foreign.any(axis=(1, 2)) & (areas < 0.5)
    rows, columns = foreign.any(axis=2)[some], foreign.any(axis=1)[some]
    tops = rows.argmax(axis=1) / (40 - rows.sum(axis=1))
    lefts = columns.argmax(axis=1) / (40 - columns.sum(axis=1))
    for place in (tops, lefts):
        assert np.histogram(place, bins=4, range=(0, 1))[0].min() > some.sum() / 6
        assert correlation(place, areas[some]) < 0.08
    assert correlation(tops, lefts) < 0.08
    assert len(np.unique(mixed)) > num * 0.99


@both
def test_partners_are_others_and_each_is_one_once(make):
    for num in (2, 3, 7, NUM):
        _, partners, _ = run(make(3), noise((num, 1, 1, 50, 50)))
        assert sorted(partners) == list(range(num))
        assert (partners != np.arange(num)).all()


@both
def test_all_others_are_partners_equally_often(make):
    counts = np.zeros((5, 5))
    clips = noise((5, 1, 1, 50, 50))
    for epoch in range(200):
        _, partners, _ = run(make(3), clips, seeds=make_seeds(5, epoch))
        counts[np.arange(5), partners] += 1
    assert not np.diag(counts).any()
    others = counts[~np.eye(5, dtype=bool)]
    assert others == pytest.approx([50] * 20, abs=30)


@both
def test_the_order_of_the_batch_does_not_matter(make):
    clips, seeds = noise(SHAPE), make_seeds(NUM)
    order = np.random.default_rng(1).permutation(NUM)
    x, y = make(1.0)(tf.constant(clips), tf.eye(NUM), seeds=seeds)
    other_x, other_y = make(1.0)(
        tf.constant(clips[order]), tf.constant(np.eye(NUM)[order]), seeds=tf.gather(seeds, order)
    )
    np.testing.assert_array_equal(other_x, x.numpy()[order])
    np.testing.assert_allclose(other_y, y.numpy()[order], atol=1e-6)


@both
def test_the_share_is_the_samples_own(make):
    clips, seeds = noise(SHAPE), make_seeds(NUM)
    _, _, ratios = run(make(1.0), clips)
    _, _, fewer = run(make(1.0), clips[::2], seeds=seeds[::2])
    np.testing.assert_allclose(fewer, ratios[::2], atol=1e-6)
    _, _, others = run(make(1.0), clips, seeds=make_seeds(NUM, epoch=1))
    assert correlation(ratios, others) < 0.5


@both
def test_a_batch_of_one_stays_as_it_is(make):
    clips = noise((1, *SHAPE[1:]))
    x, y, weights = make(1.0)(
        tf.constant(clips), tf.constant([[0.0, 1.0]]), tf.constant([0.5]), seeds=make_seeds(1)
    )
    np.testing.assert_array_equal(x, clips)
    np.testing.assert_allclose(y, [[0, 1]], atol=1e-6)
    np.testing.assert_allclose(weights, [0.5], atol=1e-6)


@both
def test_weights_are_mixed_as_labels_are(make):
    clips = noise(SHAPE)
    weights = np.linspace(0, 3, NUM).astype(np.float32)
    _, labels, mixed = call(
        make(1.0),
        tf.constant(clips),
        tf.eye(NUM),
        tf.constant(weights),
        seeds=make_seeds(NUM),
    )
    assert mixed.dtype == tf.float32
    np.testing.assert_allclose(mixed, labels.numpy() @ weights, rtol=1e-5)
    assert not np.allclose(mixed, weights)


@both
def test_labels_in_a_dict(make):
    clips, seeds = tf.constant(noise(SHAPE)), make_seeds(NUM)
    labels = {"what": tf.eye(NUM), "who": tf.eye(NUM, dtype=tf.float16)[:, ::-1]}
    _, mixed = make(1.0)(clips, labels, seeds=seeds)
    _, alone = make(1.0)(clips, tf.eye(NUM), seeds=seeds)
    np.testing.assert_array_equal(mixed["what"], alone)
    np.testing.assert_allclose(mixed["who"], alone[:, ::-1], atol=1e-3)
    assert mixed["who"].dtype == tf.float16


@both
def test_without_labels(make):
    clips, seeds = tf.constant(noise(SHAPE)), make_seeds(NUM)
    np.testing.assert_array_equal(
        make(1.0)(clips, seeds=seeds), make(1.0)(clips, tf.eye(NUM), seeds=seeds)[0]
    )


def test_two_stages_choose_independently(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["X"] = noise((NUM, 1, 1, 30, 30))
        file["Y"] = np.eye(NUM)

    def labels(*functions):
        dataset = h5v.video_dataset_from_hdf5(
            tmp_path / "f.h5", batch_size=NUM, shuffle=False, seed=0, map_fn=functions
        )
        ((_, y),) = dataset.as_numpy_iterator()
        return y

    def nothing(x, y):
        return x, y

    first, first_shares = partners_and_ratios(labels(mixup(1.0)))
    second, second_shares = partners_and_ratios(labels(nothing, mixup(1.0)))
    assert (first == second).mean() < 0.2
    assert correlation(first_shares, second_shares) < 0.5
    # One after the other: up to four samples in each.
    assert ((labels(mixup(1.0), cutmix(1.0)) > 0).sum(axis=1) > 2).mean() > 0.8


@both
@pytest.mark.parametrize(
    ("rest", "message"),
    [
        pytest.param(
            [tf.range(4)],
            r"floats of shape \(batch, classes\) .*one_hot.* Received: int32 of shape \(4,\)",
            id="class numbers",
        ),
        pytest.param([tf.eye(4, dtype=tf.int32)], "int32 of shape", id="one-hot, but integers"),
        pytest.param([tf.ones(4)], r"float32 of shape \(4,\)", id="one number a sample"),
        pytest.param([{"a": tf.eye(4), "b": tf.range(4)}], "int32", id="one of two labels"),
        pytest.param(
            [tf.eye(4), tf.range(4)],
            r"sample_weight must be floats of shape \(batch,\)\. Received: int32",
            id="weights of integers",
        ),
        pytest.param([tf.eye(4), tf.ones((4, 1))], r"float32 of shape \(4, 1\)", id="2-D weights"),
    ],
)
def test_labels_and_weights_that_cannot_be_mixed(make, rest, message):
    with pytest.raises(ArgumentError, match=message):
        call(make(), tf.constant(noise((4, *SHAPE[1:]))), *rest)


@both
@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), "1", None], ids=str)
def test_alpha(make, alpha):
    with pytest.raises(ArgumentError, match=f"above 0. Received: alpha={alpha!r}"):
        make(alpha)
