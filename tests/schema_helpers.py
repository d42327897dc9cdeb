"""Small files as public projects write them: their names, ranks, dtypes, chunks and attributes.

Each writer of `SCHEMAS` returns what it wrote, `Written`: the paths, and for each dataset the
values of every recording, by the name with which they are to be opened.

    @pytest.mark.parametrize("write", SCHEMAS.values(), ids=SCHEMAS)
    def test_something(tmp_path, write):
        written = write(tmp_path)
"""

from __future__ import annotations

import dataclasses
from typing import Any

import h5py
import numpy as np

from h5video_data.testing import recording_values

LENGTHS = (20, 17, 25, 18, 16, 19, 21, 16, 17, 18, 23, 22)  # more than 10: 2 comes before 10


@dataclasses.dataclass
class Written:
    """Files, and what is in them."""

    paths: list[str]
    """One file, or a file for each recording."""
    recordings: dict[str, list[Any]]
    """Values of each recording, (rows, ...), by the name to give, which may contain `*`."""
    x: str
    """Name of the frames: a key of `recordings`."""
    y: str | None = None
    """Name of what goes with them, with as many rows."""
    bounds: str | None = None
    """Name of the dataset that divides the rows into recordings, in time's order."""
    time_axis: int = 0
    """Axis of the frames in a recording of `x`."""


def values(i, length, shape, dtype=np.uint8):
    """Values of recording i: (length, *shape)."""
    return recording_values(i, np.arange(length), shape, dtype)


def by_recording(lengths, shapes):
    """Values of each recording, for a dict of the shape and dtype of a row by name."""
    return {
        name: [values(i, length, shape, dtype) for i, length in enumerate(lengths)]
        for name, (shape, dtype) in shapes.items()
    }


def write_files(folder, name, recordings, attributes=(), chunked=(), **options):
    """Writes a file for each recording; options are of the datasets with chunks of one frame."""
    paths = []
    for i in range(len(next(iter(recordings.values())))):
        paths.append(str(folder / name.format(i)))
        with h5py.File(paths[-1], "w") as file:
            file.attrs.update(dict(attributes))
            for key, found in recordings.items():
                chunks = {"chunks": (1, *found[i].shape[1:]), **options}
                file.create_dataset(key, data=found[i], **(chunks if key in chunked else {}))
    return paths


# --------------------------------------------------------------------------- a file a recording


def act(folder):
    """ACT and ALOHA, simulated."""
    recordings = by_recording(
        (20, 20, 20),
        {
            "observations/images/top": ((12, 16, 3), np.uint8),
            "observations/qpos": ((14,), np.float32),
            "observations/qvel": ((14,), np.float32),
            "action": ((14,), np.float32),
        },
    )
    name = "observations/images/top"
    paths = write_files(folder, "episode_{}.hdf5", recordings, {"sim": True}, [name])
    return Written(paths, recordings, name, "action")


def rdt(folder):
    """RDT and Agilex: several cameras, depth, a second action."""
    cameras = {
        f"observations/images/{name}": ((12, 16, 3), np.uint8)
        for name in ("cam_high", "cam_left_wrist", "cam_right_wrist")
    }
    others = {f"observations/{name}": ((14,), np.float32) for name in ("qpos", "qvel", "effort")}
    recordings = by_recording(
        LENGTHS[:3],
        {
            **cameras,
            "observations/images_depth/cam_high": ((12, 16), np.uint16),
            **others,
            "action": ((14,), np.float32),
            "base_action": ((2,), np.float32),
        },
    )
    attributes = {"sim": False, "compress": False}
    chunked = [*cameras, "observations/images_depth/cam_high"]
    paths = write_files(folder, "episode_{}.hdf5", recordings, attributes, chunked)
    for path in paths:
        with h5py.File(path, "a") as file:
            file["language_raw"] = ["pick up the cube"]
    return Written(paths, recordings, "observations/images/cam_high", "action")


def mtts_can(folder):
    """MTTS-CAN and DeepPhys: MATLAB 7.3, time last, in recordings of their own length."""
    paths, recordings = [], {"dXsub": [], "dysub": []}
    for i, length in enumerate((30, 24)):
        recordings["dXsub"].append(np.moveaxis(values(i, length, (6, 9, 9), np.float64), 0, -1))
        recordings["dysub"].append(values(i, length, (1,), np.float64).T)
        paths.append(str(folder / f"P{i}T1VideoB2.mat"))
        with h5py.File(paths[-1], "w", userblock_size=512) as file:
            for key, found in recordings.items():
                file.create_dataset(key, data=found[i], chunks=True, compression="gzip")
                file[key].attrs["MATLAB_class"] = np.bytes_("double")
    return Written(paths, recordings, "dXsub", "dysub", time_axis=-1)


def deep_interpolation(folder):
    """DeepInterpolation: calcium imaging, one dataset."""
    recordings = by_recording((40,), {"data": ((12, 16), np.uint16)})
    paths = write_files(folder, "motion_corrected_video_{}.h5", recordings, chunked=["data"])
    return Written(paths, recordings, "data")


def moseq(folder):
    """MoSeq: depth video of a mouse, compressed."""
    scalars = ("angle", "area_mm", "centroid_x_px", "velocity_2d_mm")
    recordings = by_recording(
        (40, 31),
        {
            "frames": ((10, 10), np.uint8),
            "frames_mask": ((10, 10), bool),
            **{f"scalars/{name}": ((), np.float32) for name in scalars},
            "timestamps": ((), np.float64),
        },
    )
    chunked = ("frames", "frames_mask")
    paths = write_files(
        folder, "results_{:02}.h5", recordings, chunked=chunked, chunks=True, compression="gzip"
    )
    for path in paths:
        with h5py.File(path, "a") as file:
            file["metadata/uuid"] = "00000000-0000"
            file["metadata/extraction/flips"] = np.zeros(len(file["frames"]), bool)
            file["metadata/extraction/true_depth"] = 673.1
            file["metadata/acquisition/ColorDataType"] = ["Byte[]"]
    return Written(paths, recordings, "frames")


def nwb(folder):
    """Neurodata Without Borders: an imaging series, among much else."""
    name = "acquisition/TwoPhotonSeries/data"
    recordings = by_recording((40,), {name: ((12, 16), np.uint16)})
    path = folder / "sub-1_ses-1_ophys.nwb"
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"], file.attrs["neurodata_type"] = "2.6.0", "NWBFile"
        data = file.create_dataset(
            name, data=recordings[name][0], chunks=(10, 12, 16), compression="gzip"
        )
        data.attrs["unit"], data.attrs["conversion"] = "n.a.", np.float32(1)
        data.parent.attrs["neurodata_type"] = "TwoPhotonSeries"
        data.parent["starting_time"] = 0.0
        data.parent["starting_time"].attrs["rate"] = np.float32(30)
        data.parent["imaging_plane"] = h5py.SoftLink("/general/optophysiology/ImagingPlane")
        plane = file.create_group("general/optophysiology/ImagingPlane")
        plane["description"] = "V1"
        file["identifier"], file["session_start_time"] = "1", "2026-11-01T10:00:00+00:00"
        file["file_create_date"] = ["2026-11-01T10:00:00+00:00"]
        trials = file.create_group("intervals/trials")
        trials.attrs["colnames"] = ["start_time", "stop_time"]
        trials["id"] = np.arange(5)
        trials["start_time"], trials["stop_time"] = np.arange(5.0), np.arange(5.0) + 0.5
        series = file.create_group("processing/behavior/Position/SpatialSeries")
        series["data"], series["timestamps"] = np.zeros((90, 2)), np.arange(90.0)
    return Written([str(path)], recordings, name)


def _zea(folder, name, dtype):
    recordings: dict[str, list[Any]] = {name: []}
    for i, (length, shape) in enumerate([(20, (14, 10)), (17, (16, 12))]):
        recordings[name].append(values(i, length, shape, dtype))
    attributes = {"probe": "generic"}
    paths = write_files(folder, "0X{}.hdf5", recordings, attributes, [name], compression="lzf")
    for path in paths:
        with h5py.File(path, "a") as file:
            file[name].attrs["description"] = "The image data"
            file["scan/center_frequency"] = np.float32(5e6)
            file["scan/n_frames"] = len(file[name])
            file["scan/probe_geometry"] = np.zeros((80, 3), np.float32)
            file["scan/focus_distances"] = np.zeros(11, np.float32)
    return Written(paths, recordings, name)


def zea(folder):
    """zea: ultrasound sequences that differ in rows and columns."""
    return _zea(folder, "data/image", np.float32)


def zea_values(folder):
    """zea, as it writes EchoNet and CAMUS since 0.1."""
    return _zea(folder, "data/image/values", np.uint8)


# --------------------------------------------------------------------------- a group a recording


def _demos(folder, name, observations, lengths=LENGTHS):
    shapes = {
        **{f"obs/{key}": item for key, item in observations.items()},
        **{f"next_obs/{key}": item for key, item in observations.items()},
        "actions": ((7,), np.float64),
        "states": ((9,), np.float64),
        "rewards": ((), np.float64),
        "dones": ((), np.int64),
    }
    found = by_recording(lengths, shapes)
    for key in ("rewards", "dones"):  # nothing until it succeeds
        found[key] = [
            (np.arange(length) == length - 1).astype(shapes[key][1]) for length in lengths
        ]
    path = folder / name
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"], data.attrs["env_args"] = sum(lengths), '{"env_name": "Lift"}'
        for i, length in enumerate(lengths):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"], demo.attrs["model_file"] = length, "<mujoco/>"
            for key, item in found.items():
                is_compressed = "obs/" in key
                options = {"compression": "gzip"} if is_compressed else {}
                demo.create_dataset(key, data=item[i], **options)
        names = [f"demo_{i}".encode() for i in range(len(lengths))]
        file["mask/train"], file["mask/valid"] = np.array(names[2:]), np.array(names[:2])
    return Written([str(path)], {f"data/*/{key}": item for key, item in found.items()}, "", None)


def robomimic(folder):
    """robomimic, MimicGen and RoboCasa."""
    observations = {
        "robot0_eye_in_hand_image": ((12, 12, 3), np.uint8),
        "agentview_image": ((12, 12, 3), np.uint8),
        "robot0_eef_pos": ((3,), np.float64),
    }
    written = _demos(folder, "image_v15.hdf5", observations)
    return dataclasses.replace(written, x="data/*/obs/agentview_image", y="data/*/actions")


def libero(folder):
    """LIBERO."""
    observations = {
        "agentview_rgb": ((16, 16, 3), np.uint8),
        "eye_in_hand_rgb": ((16, 16, 3), np.uint8),
        "ee_states": ((6,), np.float64),
    }
    written = _demos(folder, "pick_up_the_book_demo.hdf5", observations)
    return dataclasses.replace(written, x="data/*/obs/agentview_rgb", y="data/*/actions")


def ragged_features(folder):
    """Features of videos, whose modalities differ in length."""
    found: dict[str, list[Any]] = {"video": [], "audio": [], "features": []}
    path = folder / "features.h5"
    with h5py.File(path, "w") as file:
        for i, length in enumerate(LENGTHS):
            group = file.create_group(f"{'ab'[i % 2]}/video{i:03}")
            group["video"] = values(i, length, (32,), np.float32)
            group["audio"] = values(i, 2 * length + 1, (8,), np.float32)
            group["features"] = values(i, length + 3, (5,), np.float32)
    for i in [*range(0, len(LENGTHS), 2), *range(1, len(LENGTHS), 2)]:  # the order of the names
        found["video"].append(values(i, LENGTHS[i], (32,), np.float32))
        found["audio"].append(values(i, 2 * LENGTHS[i] + 1, (8,), np.float32))
        found["features"].append(values(i, LENGTHS[i] + 3, (5,), np.float32))
    recordings = {f"*/*/{key}": item for key, item in found.items()}
    return Written([str(path)], recordings, "*/*/video")


# --------------------------------------------------------------------------- end to end


def stable_worldmodel(folder):
    """stable-worldmodel and LeWM."""
    recordings = by_recording(
        LENGTHS,
        {
            "pixels": ((14, 14, 3), np.uint8),
            "action": ((2,), np.float32),
            "proprio": ((4,), np.float32),
            "pos_target": ((2,), np.float32),
            "reward": ((), np.float32),
        },
    )
    path, lengths = folder / "pusht_expert_train.h5", np.array(LENGTHS)
    with h5py.File(path, "w") as file:
        for key, found in recordings.items():
            chunks = (1, 14, 14, 3) if key == "pixels" else True
            whole = np.concatenate(found)
            file.create_dataset(key, data=whole, chunks=chunks, maxshape=(None, *whole.shape[1:]))
        file["ep_len"] = lengths.astype(np.int32)
        file["ep_offset"] = (np.cumsum(lengths) - lengths).astype(np.int64)
        file["ep_idx"] = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
        file["step_idx"] = np.concatenate([np.arange(length) for length in lengths])
        file["id"] = np.arange(sum(LENGTHS))
        file["terminated"] = np.isin(np.arange(sum(LENGTHS)), np.cumsum(LENGTHS) - 1)
        file["env_name"] = ["PushT"] * sum(LENGTHS)
    return Written([str(path)], recordings, "pixels", "action", "ep_offset")


def video_gpt(folder):
    """VideoGPT: two sets in a file."""
    path, recordings = folder / "ucf101.h5", {}
    with h5py.File(path, "w") as file:
        for first, name, lengths in [(0, "train", LENGTHS), (50, "test", LENGTHS[:4])]:
            found = [values(first + i, length, (12, 12, 3)) for i, length in enumerate(lengths)]
            file[f"{name}_data"] = np.concatenate(found)
            file[f"{name}_idx"] = np.cumsum(lengths) - np.array(lengths)
            recordings[f"{name}_data"] = found
    return Written([str(path)], recordings, "train_data", None, "train_idx")


# --------------------------------------------------------------------------- stacked


def sevir(folder):
    """SEVIR: weather, time last."""
    path, recordings = folder / "SEVIR_VIL_STORMEVENTS_2018_0101_0630.h5", {}
    frames = np.moveaxis(values(np.arange(6)[:, np.newaxis], 49, (12, 12)), 1, -1)
    recordings["vil"] = list(frames)
    with h5py.File(path, "w") as file:
        file.create_dataset("vil", data=frames, chunks=(1, 12, 12, 49), compression="gzip")
        file["id"] = np.array([f"S{700000 + i}".encode() for i in range(6)])
    return Written([str(path)], recordings, "vil", time_axis=-1)


def the_well(folder):
    """The Well: trajectories of physical fields, stacked."""
    path, recordings = folder / "turbulent_radiative_layer_tcool_0.03.hdf5", {}
    for key, shape in {"t0_fields/density": (12, 16), "t1_fields/velocity": (12, 16, 2)}.items():
        recordings[key] = [values(i, 21, shape, np.float32) for i in range(5)]
    with h5py.File(path, "w") as file:
        file.attrs.update({"n_trajectories": 5, "n_spatial_dims": 2, "grid_type": "cartesian"})
        for key, found in recordings.items():
            file[key] = np.stack(found)
            file[key].attrs.update({"dim_varying": [True, True], "time_varying": True})
        file["t0_fields"].attrs["field_names"] = ["density"]
        file["t1_fields"].attrs["field_names"] = ["velocity"]
        file.create_group("t2_fields").attrs["field_names"] = h5py.Empty("S1")
        file["dimensions/time"] = np.arange(21, dtype=np.float32)
        file["dimensions/x"], file["dimensions/y"] = np.arange(12.0), np.arange(16.0)
        file["scalars/tcool"] = np.float32(0.03)
    return Written([str(path)], recordings, "t0_fields/density")


def stacked_clips(folder):
    """Clips of the same length, with labels."""
    path = folder / "clips.h5"
    recordings = {"videos": [values(i, 16, (3, 12, 12), np.float16) for i in range(9)]}
    recordings["labels"] = list(np.arange(9) % 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("videos", data=np.stack(recordings["videos"]), compression="gzip")
        file["labels"] = recordings["labels"]
    return Written([str(path)], recordings, "videos", "labels")


SCHEMAS = {
    "act": act,
    "rdt": rdt,
    "robomimic": robomimic,
    "libero": libero,
    "stable_worldmodel": stable_worldmodel,
    "video_gpt": video_gpt,
    "sevir": sevir,
    "the_well": the_well,
    "mtts_can": mtts_can,
    "deep_interpolation": deep_interpolation,
    "moseq": moseq,
    "nwb": nwb,
    "zea": zea,
    "zea_values": zea_values,
    "stacked_clips": stacked_clips,
    "ragged_features": ragged_features,
}
STACKED = ("sevir", "the_well", "stacked_clips")  # a row is a sample, not a frame
