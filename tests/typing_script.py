# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What mypy and pyright know of the package where it is installed: see `.ci/check_wheel`."""

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

# Errors, each: mypy's `warn_unused_ignores` and pyright's option above hold that.
h5v.VideoLoader("a.h5", subset="both", seed=0)  # type: ignore[arg-type]
h5v.VideoLoader("a.h5", shuffle="sometimes")  # type: ignore[arg-type]
h5v.video_dataset_from_hdf5("a.h5", batchsize=3)  # type: ignore[call-overload]
h5v.video_datasets_from_hdf5("a.h5")  # type: ignore[attr-defined]
