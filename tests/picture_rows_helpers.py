"""Small files of encoded pictures, as public projects write them, and ways of storing such rows.

Each writer of `PICTURE_SCHEMAS` returns what it wrote, `Pictures`: the paths, and for each dataset
the encoded bytes of every row, by recording.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import h5py
import numpy as np
from imagecodecs import jpeg8_decode, jpeg8_encode, png_decode, png_encode

SIZE = (24, 32)
UINT8_ROWS = h5py.special_dtype(vlen=np.uint8)


def picture(number, size=SIZE, channels=3, dtype=np.uint8):
    """A picture (rows, columns, channels) that differs from those of other numbers."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    rng = np.random.default_rng(number)
    most = np.iinfo(dtype).max
    found = np.empty((*size, channels), dtype)
    for channel in range(channels):
        row, column, phase = rng.uniform(0.05, 0.4, 3)
        wave = np.sin(rows * row + phase * number) + np.cos(columns * column + channel)
        found[..., channel] = (wave + 2) / 4 * most
    return found


def jpeg(number, size=SIZE, channels=3, quality=90):
    """The bytes of a JPEG; the lengths of other numbers differ."""
    array = picture(number, size, channels)
    return bytes(jpeg8_encode(array if channels > 1 else array[..., 0], level=quality))


def png(number, size=SIZE, channels=3, dtype=np.uint8):
    """The bytes of a PNG."""
    array = picture(number, size, channels, dtype)
    return bytes(png_encode(array if channels > 1 else array[..., 0]))


def decoded(data):
    """A picture as its library decodes it alone, (rows, columns, channels)."""
    data = np.asarray(data).tobytes() if not isinstance(data, bytes) else data
    found = np.asarray(png_decode(data) if data.startswith(b"\x89PNG") else jpeg8_decode(data))
    return found if found.ndim == 3 else found[..., np.newaxis]


def row_bytes(dataset, row):
    """The bytes of a row as h5py gives them, of any way of storing them."""
    value = dataset[row]
    return value if isinstance(value, bytes) else np.asarray(value).tobytes()


def written_pictures(path, name="video"):
    """All rows of a dataset, decoded from what h5py gives."""
    with h5py.File(path) as file:
        return [decoded(row_bytes(file[name], row)) for row in range(len(file[name]))]


# --------------------------------------------------------------------------- ways of storing


def as_variable(file, name, rows, **options):
    dataset = file.create_dataset(name, (len(rows),), UINT8_ROWS, **options)
    for number, row in enumerate(rows):
        dataset[number] = np.frombuffer(row, np.uint8)


def as_variable_opaque(file, name, rows, **options):
    dtype = h5py.vlen_dtype(np.dtype("V1"))
    dataset = file.create_dataset(name, (len(rows),), dtype, **options)
    for number, row in enumerate(rows):
        dataset[number] = np.frombuffer(row, "V1")


def as_strings(file, name, rows, **options):
    """Bytes of a fixed length, `S{longest}`: zeros at the end of a row are not given back."""
    file.create_dataset(name, data=np.array(rows, f"S{max(map(len, rows))}"), **options)


def as_opaque(file, name, rows, **options):
    file.create_dataset(name, data=np.array(rows, f"V{max(map(len, rows))}"), **options)


def as_padded(file, name, rows, dtype=np.uint8, **options):
    longest = max(map(len, rows))
    padded = [np.pad(np.frombuffer(row, dtype), (0, longest - len(row))) for row in rows]
    if isinstance(options.get("chunks"), tuple):
        options = {**options, "chunks": (*options["chunks"], longest)}
    file.create_dataset(name, data=np.stack(padded), **options)


def as_signed(file, name, rows, **options):
    as_padded(file, name, rows, np.int8, **options)


FORMS = {
    "variable": as_variable,
    "variable opaque": as_variable_opaque,
    "strings": as_strings,
    "opaque": as_opaque,
    "padded": as_padded,
    "padded int8": as_signed,
}
STORAGES: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunks of a row": {"chunks": (1,)},
    "chunks of rows": {"chunks": (4,)},
    "gzip, chunks of a row": {"chunks": (1,), "compression": "gzip"},
    "gzip, chunks of rows": {"chunks": (5,), "compression": "gzip", "shuffle": True},
}


def write(path, rows, form="variable", name="video", userblock=0, **options):
    """Writes a dataset of encoded pictures into a new file."""
    with h5py.File(path, "w", userblock_size=userblock) as file:
        FORMS[form](file, name, rows, **options)
        file["number"] = np.arange(len(rows))
    return str(path)


# --------------------------------------------------------------------------- public projects


@dataclasses.dataclass
class Pictures:
    """Files, and what is in them."""

    paths: list[str]
    recordings: dict[str, list[list[bytes]]]
    """Encoded rows of each recording, by the name to give, which may contain `*`."""
    others: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    """Numbers beside them, by name."""


LENGTHS = (20, 17, 22)


def aloha_compressed(folder):
    """ALOHA with `--compress`: rows padded to the longest of the file, by `record_episodes.py`."""
    cameras = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
    written = Pictures([], {f"observations/images/{cam}": [] for cam in cameras}, {"action": []})
    for episode, length in enumerate(LENGTHS):
        data_dict: dict[str, Any] = {
            "/action": np.random.default_rng(episode).normal(size=(length, 14)),
        }
        compressed_len, longest = [], 0
        for number, cam in enumerate(cameras):
            rows = [jpeg(1000 * number + 100 * episode + i, quality=50) for i in range(length)]
            written.recordings[f"observations/images/{cam}"].append(rows)
            compressed_len.append([len(row) for row in rows])
            longest = max(longest, *map(len, rows))
        for cam in cameras:
            padded = []
            for row in written.recordings[f"observations/images/{cam}"][-1]:
                padded.append(np.zeros(longest, dtype="uint8"))
                padded[-1][: len(row)] = np.frombuffer(row, np.uint8)
            data_dict[f"/observations/images/{cam}"] = padded
        path = folder / f"episode_{episode}.hdf5"
        with h5py.File(path, "w", rdcc_nbytes=1024**2 * 2) as root:
            root.attrs["sim"], root.attrs["compress"] = False, True
            image = root.create_group("observations").create_group("images")
            for cam in cameras:
                image.create_dataset(cam, (length, longest), dtype="uint8", chunks=(1, longest))
            root.create_dataset("action", (length, 14))
            root.create_dataset("compress_len", (len(cameras), length))
            for name, array in data_dict.items():
                root[name][...] = array
            root["/compress_len"][...] = np.array(compressed_len)
            written.others["action"].append(root["action"][:])
        written.paths.append(str(path))
    return written


def robotwin(folder):
    """RoboTwin: bytes of a fixed length, `S{longest}`, by `pkl2hdf5.py`."""
    cameras = ("head_camera", "left_camera")
    written = Pictures([], {f"observation/{cam}/rgb": [] for cam in cameras}, {})
    written.others["joint_action/vector"] = []
    for episode, length in enumerate(LENGTHS):
        path = folder / f"episode{episode}.hdf5"
        with h5py.File(path, "w") as f:
            for number, cam in enumerate(cameras):
                group = f.require_group("observation").create_group(cam)
                encode_data, max_len = [], 0
                for i in range(length):
                    encode_data.append(jpeg(1000 * number + 100 * episode + i))
                    max_len = max(max_len, len(encode_data[-1]))
                written.recordings[f"observation/{cam}/rgb"].append(list(encode_data))
                group.create_dataset("rgb", data=encode_data, dtype=f"S{max_len}")
                group.create_dataset("intrinsic_cv", data=np.zeros((length, 3, 3)))
            vector = np.random.default_rng(episode).normal(size=(length, 14))
            f.create_group("joint_action").create_dataset("vector", data=np.array(vector))
            written.others["joint_action/vector"].append(vector)
        written.paths.append(str(path))
    return written


def rdt(folder):
    """RDT's fine-tuning data: `S{longest}` for each camera, in the groups of ALOHA."""
    cameras = ("cam_high", "cam_left_wrist", "cam_right_wrist")
    written = Pictures([], {f"observations/images/{cam}": [] for cam in cameras})
    written.others = {"observations/qpos": [], "action": []}
    for episode, length in enumerate(LENGTHS):
        path = folder / f"episode_{episode}.hdf5"
        with h5py.File(path, "w") as f:
            rng = np.random.default_rng(episode)
            f.create_dataset("action", data=rng.normal(size=(length, 14)).astype(np.float32))
            obs = f.create_group("observations")
            obs.create_dataset("qpos", data=rng.normal(size=(length, 14)).astype(np.float32))
            image = obs.create_group("images")
            for number, cam in enumerate(cameras):
                rows = [jpeg(1000 * number + 100 * episode + i) for i in range(length)]
                longest = max(map(len, rows))
                padded = [row.ljust(longest, b"\0") for row in rows]
                image.create_dataset(cam, data=padded, dtype=f"S{longest}")
                written.recordings[f"observations/images/{cam}"].append(rows)
            f["instruction"] = "fold the cloth"
            for name, found in written.others.items():
                found.append(f[name][:])
        written.paths.append(str(path))
    return written


def resnets_3d(folder):
    """3D-ResNets-PyTorch: a file a video, of its own size, by `generate_video_hdf5.py`."""
    written = Pictures([], {"video": []})
    for number, (length, size) in enumerate(
        [(20, (24, 32)), (17, (24, 40)), (25, (30, 24)), (18, (24, 32))]
    ):
        path = folder / ("run", "walk")[number % 2] / f"v_{number}.hdf5"
        path.parent.mkdir(exist_ok=True)
        rows = [jpeg(100 * number + i, size) for i in range(length)]
        with h5py.File(path, "w") as f:
            dtype = h5py.special_dtype(vlen="uint8")
            f.create_dataset("video", (length,), dtype=dtype)
        for i, data in enumerate(rows):
            with h5py.File(path, "r+") as f:  # anew for each frame
                video = f["video"]
                video[i] = np.frombuffer(data, dtype="uint8")
        written.recordings["video"].append(rows)
        written.paths.append(str(path))
    return written


def minari(folder):
    """Minari with `data_format="hdf5"` and JPEG observations: a group an episode."""
    name = "episode_*/observations/pixels"
    written = Pictures([str(folder / "main_data.hdf5")], {name: []}, {"episode_*/actions": []})
    with h5py.File(written.paths[0], "w") as file:
        for episode, length in enumerate((20, 17, 22, 16, 18, 19, 21, 16, 17, 18, 23)):
            group = file.create_group(f"episode_{episode}")
            group.attrs.update({"id": episode, "total_steps": length - 1, "seed": 1})
            rows = [jpeg(100 * episode + i) for i in range(length)]
            arrays = [np.frombuffer(row, dtype=np.uint8) for row in rows]
            observations = group.create_group("observations")
            dtype = h5py.vlen_dtype(np.dtype("uint8"))
            pixels = observations.create_dataset("pixels", (length,), dtype=dtype, chunks=True)
            for i, array in enumerate(arrays):
                pixels[i] = array
            # An observation more than actions.
            actions = np.random.default_rng(episode).normal(size=(length - 1, 2))
            for key, values in {"actions": actions, "rewards": actions[:, 0]}.items():
                group.create_dataset(
                    key, data=values, chunks=True, maxshape=(None, *values.shape[1:])
                )
            written.recordings[name].append(rows)
            written.others["episode_*/actions"].append(actions)
    return written


def robonet(folder):
    """RoboNet: `env/cam<i>_video/frame<t>`, the bytes of one JPEG in a dataset of uint8 each."""
    written = Pictures([], {f"env/cam{cam}_video": [] for cam in range(2)})
    for number in range(2):
        path = folder / f"traj{number}.hdf5"
        with h5py.File(path, "w") as file:
            file["file_version"] = "0.1.0"
            for cam in range(2):
                rows = [jpeg(1000 * cam + 100 * number + t) for t in range(6)]
                group = file.create_group(f"env/cam{cam}_video")
                file["env"].attrs["n_cams"], file["env"].attrs["cam_encoding"] = 2, "jpeg"
                for t, row in enumerate(rows):
                    # As OpenCV's imencode returned it up to 4.5.1, and since then.
                    array = np.frombuffer(row, np.uint8).reshape((-1, 1) if number else (-1,))
                    data = group.create_dataset(f"frame{t}", data=array)
                    data.attrs["shape"], data.attrs["image_format"] = (*SIZE, 3), "RGB"
                written.recordings[f"env/cam{cam}_video"].append(rows)
        written.paths.append(str(path))
    return written


def sleap(folder, fixed_length=False):
    """SLEAP packages: `video<i>/video`, PNG of a camera in grey, as int8 of variable length.

    sleap-io pads the rows, and compresses them, by default.
    """
    path = folder / "labels.v001.pkg.slp"
    written = Pictures([str(path)], {"video*/video": []}, {"video*/frame_numbers": []})
    for number, length in enumerate((20, 17)):
        rows = [png(100 * number + i, channels=1) for i in range(length)]
        imgs_data = [np.frombuffer(row, dtype="int8") for row in rows]
        group = f"video{number}"
        with h5py.File(path, "a") as f:
            if fixed_length:
                img_bytes_len = max(len(img) for img in imgs_data)
                ds = f.create_dataset(
                    f"{group}/video",
                    shape=(len(imgs_data), img_bytes_len),
                    dtype="int8",
                    compression="gzip",
                )
                for i, img in enumerate(imgs_data):
                    ds[i, : len(img)] = img
            else:
                ds = f.create_dataset(
                    f"{group}/video",
                    shape=(len(imgs_data),),
                    dtype=h5py.special_dtype(vlen=np.dtype("int8")),
                )
                for i, img in enumerate(imgs_data):
                    ds[i] = img
            ds.attrs["format"], ds.attrs["channel_order"] = "png", "RGB"
            ds.attrs["frames"], ds.attrs["channels"] = length, 1
            ds.attrs["height"], ds.attrs["width"] = SIZE
            frame_numbers = np.arange(length) * 7 + number
            f.create_dataset(f"{group}/frame_numbers", data=frame_numbers)
            f.create_group(f"{group}/source_video").attrs["json"] = "{}"
        written.recordings["video*/video"].append(rows)
        written.others["video*/frame_numbers"].append(frame_numbers)
    with h5py.File(path, "a") as f:
        f.create_dataset("videos_json", data=[b'{"backend": {}}'])
    return written


def sleap_io(folder):
    """SLEAP packages, as sleap-io writes them."""
    return sleap(folder, fixed_length=True)


PICTURE_SCHEMAS = {
    "aloha_compressed": aloha_compressed,
    "robotwin": robotwin,
    "rdt_compressed": rdt,
    "resnets_3d": resnets_3d,
    "minari": minari,
    "robonet": robonet,
    "sleap": sleap,
    "sleap_io": sleap_io,
}
