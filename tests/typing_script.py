# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What mypy and pyright know of the package where it is installed: see `.ci/check_wheel`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import h5video_data as h5v

train, val = h5v.video_dataset_from_hdf5("a.h5", validation_split=0.3, subset="both", seed=0)
assert_type(train.loader, h5v.VideoLoader)
assert_type(val.class_names, list[str])
one = h5v.video_dataset_from_hdf5("a.h5", batch_size=None, shuffle="blocks", clip=h5v.Clip(16))
assert_type(one.loader.steps_per_epoch, int)
assert_type(h5v.VideoLoader("a.h5", on_error="skip").dataset().loader.skipped, dict[int, str])
for x, y in h5v.VideoLoader("a.h5"):
    print(x.shape, y.shape)
x, y = h5v.VideoLoader("a.h5", indices=range(5))[0]
print(x.shape, y.shape)


def flipped(x: NDArray[np.uint8], y: NDArray[np.float32]) -> tuple[Any, ...]:
    return x[..., ::-1], y


folds = h5v.video_dataset_from_hdf5(
    "a.h5",
    shuffle="balanced",
    seed=0,
    validation_split=0.3,
    subset="both",
    stratify_by=np.arange(9) % 3,
    indices=np.arange(9) > 2,
    map_fn={"training": [flipped, flipped], "validation": flipped},
    return_indices=True,
    num_parallel_calls=2,
)
assert_type(folds[1].loader.sample_indices, NDArray[np.int64])
sides = h5v.split_samples("a.h5", 0.3, stratify_by="Y", indices=[0, 2, 1])
assert_type(sides, tuple[NDArray[np.int64], NDArray[np.int64]])
h5v.VideoLoader("a.h5", indices=[True, False], map_fn=[flipped])

# Errors, each: mypy's `warn_unused_ignores` and pyright's option above hold that.
h5v.VideoLoader("a.h5", subset="both", seed=0)  # type: ignore[arg-type]
h5v.VideoLoader("a.h5", shuffle="sometimes")  # type: ignore[arg-type]
h5v.VideoLoader("a.h5", indices=[0.5])  # type: ignore[list-item]
h5v.VideoLoader("a.h5", map_fn={"train": flipped})  # type: ignore[dict-item]
print(h5v.VideoLoader("a.h5")["X"])  # type: ignore[index]
h5v.video_dataset_from_hdf5("a.h5", batchsize=3)  # type: ignore[call-overload]
h5v.video_datasets_from_hdf5("a.h5")  # type: ignore[attr-defined]
