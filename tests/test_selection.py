"""`key` and `data_format`: values of an element, and their axes."""

from __future__ import annotations

import pytest

from h5video_data.errors import ArgumentError
from h5video_data.transforms.selection import Place, as_names, axes_of, find_places, may_be_images

DICTS = ({"rgb": 1, "flow": 2}, {"mask": 3, "class": 4}, 5)


@pytest.mark.parametrize(
    ("element", "key", "places"),
    [
        pytest.param((1,), None, [(0, None)], id="x"),
        pytest.param((1, {"a": 2}), None, [(0, None)], id="x beside a dict"),
        pytest.param((1,), "x", [(0, None)], id="x by its name"),
        pytest.param((1, 2), "y", [(1, None)], id="y alone"),
        pytest.param(
            (1, 2), ("y", "x"), [(1, None), (0, None)], id="both, in the order of the key"
        ),
        pytest.param((1, 2, 3), ["x", "sample_weight"], [(0, None), (2, None)], id="weights"),
        pytest.param(DICTS, "flow", [(0, "flow")], id="of x"),
        pytest.param(DICTS, ["rgb", "mask"], [(0, "rgb"), (1, "mask")], id="of x and y"),
        pytest.param((1, {"mask": 2}), ("x", "mask"), [(0, None), (1, "mask")], id="one dict"),
        pytest.param(({"x": 1, "z": 2},), "x", [(0, "x")], id="a dict with such a name"),
    ],
)
def test_places(element, key, places):
    found = find_places(element, as_names(key))
    assert list(found) == places
    for place in found:
        changed = place.put(element, 100)
        assert place.get(changed) == 100
        assert Place(place.item, place.name).put(changed, place.get(element)) == element


@pytest.mark.parametrize(
    ("element", "key", "message"),
    [
        pytest.param((1,), "video", r"one of \['x'\], .*key='video'", id="x is no dict"),
        pytest.param((1, 2), ["x", "mask"], r"\['x', 'y'\].*key='mask'", id="nor is y"),
        pytest.param((1,), "y", r"\['x'\].*key='y'", id="there is no y"),
        pytest.param(
            DICTS, None, r"x is a dict: .*\['class', 'flow', 'mask', 'rgb', 'sa", id="which of x"
        ),
        pytest.param(DICTS, "x", "x is a dict: .*key='x'", id="x is the whole dict"),
        pytest.param(
            ({"a": 1}, {"a": 2}),
            "a",
            "different names. .*key='a', which is in x and in y",
            id="two",
        ),
        pytest.param(({"y": 1}, 2), "y", "key='y', which is in x and in y", id="y, and y of x"),
    ],
)
def test_names_that_do_not_say_which(element, key, message):
    with pytest.raises(ArgumentError, match=message):
        find_places(element, as_names(key))


@pytest.mark.parametrize("key", ["a", ["a"], ("a", "b")], ids=str)
def test_names(key):
    assert as_names(key) == (("a",) if key == "a" else tuple(key))


@pytest.mark.parametrize("key", [3, [], ("a", "a"), ["a", 3], ["a", ["b"]], {"a": 1}], ids=str)
def test_keys_that_are_none(key):
    with pytest.raises(ArgumentError, match=r"`key` must be a name, or several .* Received: key="):
        as_names(key)


@pytest.mark.parametrize(
    ("shape", "default", "last"),
    [
        pytest.param((None, 8, 3, 64, 64), True, False, id="RGB first"),
        pytest.param((None, 8, 64, 64, 3), False, True, id="RGB last"),
        pytest.param((2, 8, 1, 64, 64), True, False, id="grey first"),
        pytest.param((2, 8, 64, 64, 1), False, True, id="grey last"),
        pytest.param((2, 8, 64, 48, 4), False, True, id="RGBA last"),
        pytest.param((2, 8, 64, 48, 2), False, True, id="flow last"),
        pytest.param((2, 16, 3, 64, 3), True, True, id="either"),
        pytest.param((2, 8, 3, 3, 3), True, True, id="tiny"),
        pytest.param((2, 8, 12, 64, 64), True, True, id="many channels first, or last"),
        pytest.param((2, 8, 64, 1, 1), True, True, id="electrodes: no frames in either order"),
        pytest.param((2, 8, 1, 1, 64), True, True, id="electrodes, last"),
        pytest.param((None, None, None, None, None), True, True, id="not known"),
        pytest.param((2, 8, None, 64, 3), True, True, id="rows not known"),
    ],
)
def test_shapes_and_orders(shape, default, last):
    axes_of("channels_first").check(shape)  # it is taken at its word
    for data_format, is_right in ((None, default), ("channels_last", last)):
        if is_right:
            axes_of(data_format).check(shape)
        else:
            with pytest.raises(
                ArgumentError, match=r"their channels .* Received: clips of shape \("
            ):
                axes_of(data_format).check(shape)


def test_axes():
    assert axes_of(None)[:3] == axes_of("channels_first")[:3] == (2, 3, 4)
    assert axes_of("channels_last")[:3] == (4, 2, 3)


@pytest.mark.parametrize(
    ("shape", "default", "first", "last"),
    [
        pytest.param((None, 3, 64, 64), True, True, True, id="RGB first: the order is wrong"),
        pytest.param((2, 1, 64, 48), True, True, True, id="grey first"),
        pytest.param((2, 64, 48, 3), True, True, True, id="RGB last: the order is wrong"),
        pytest.param((2, 64, 48, 2), True, True, True, id="flow last"),
        pytest.param((2, 2, 64, 48), False, True, True, id="flow first, or two grey frames"),
        pytest.param((2, 12, 64, 48), False, True, False, id="many channels, or grey frames"),
        pytest.param((2, 64, 48, 12), False, True, False, id="many channels last"),
        pytest.param((2, None, 64, 48), False, True, False, id="not known"),
        pytest.param((2, 64, 48, None), False, True, False, id="not known, last"),
        pytest.param((2, 3, None, None), True, True, False, id="rows not known"),
    ],
)
def test_images_and_what_may_be_video(shape, default, first, last):
    for data_format, is_right in ((None, default), ("channels_first", first)):
        check_images(data_format, shape, is_right)
    check_images("channels_last", shape, last)


def check_images(data_format, shape, is_right):
    if is_right:
        axes_of(data_format).check_images(shape)
    else:
        with pytest.raises(ArgumentError, match=r"images of 1, 3 or 4 .* Received: clips of shape"):
            axes_of(data_format).check_images(shape)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3, 64, 48), True),
        ((None, 64, 64, 3), True),
        ((2, 64, 64, 1), True),
        ((2, 1, 64, 64), False),
        ((2, 4, 84, 84), False),
        ((2, 32, 17, 3), False),
        ((2, 3, 17, 2), False),
        ((2, None, None, None), False),
        ((2, 3, 64), False),
        ((2, 3, 3, 64, 64), False),
    ],
    ids=str,
)
def test_shapes_that_may_be_images(shape, expected):
    assert may_be_images(shape) == expected
