"""Files of an object store: moto's S3 server on loopback."""

from __future__ import annotations

import io
import json
import traceback
import zlib

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data.errors import FileChangedError, UnavailableError, VideoFileNotFoundError

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")
boto3 = pytest.importorskip("boto3")

pytestmark = [
    # Of botocore and moto.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

X = np.random.default_rng(0).integers(0, 255, (60, 4, 8, 8, 3), np.uint8)
SECRET = "hunter2-do-not-show"


def content(number):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["X"] = X[number * 20 :][:20]
        file.create_dataset("gzip", data=file["X"][()], chunks=(1, 4, 8, 8, 3), compression="gzip")
        file.create_dataset("rows", data=file["X"][()], chunks=(8, 4, 8, 8, 3), compression="gzip")
        file["Y"] = np.arange(20) + 100 * number
    return buffer.getvalue()


@pytest.fixture(scope="module")
def endpoint():
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint):
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="me",
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="films")
    for number in range(3):
        client.put_object(Bucket="films", Key=f"set/{number}.h5", Body=content(number))
    yield client
    for item in client.list_objects(Bucket="films")["Contents"]:
        client.delete_object(Bucket="films", Key=item["Key"])
    client.delete_bucket(Bucket="films")


@pytest.fixture
def options(endpoint):
    return {"key": "me", "secret": SECRET, "endpoint_url": endpoint}


@pytest.fixture
def local(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.h5").write_bytes(content(number))
    return tmp_path / "*.h5"


@pytest.mark.parametrize("name", ["X", "gzip", "rows"])
@pytest.mark.usefixtures("bucket")
def test_values_are_those_of_the_local_files(options, local, name):
    def epoch(path, **more):
        with h5v.VideoLoader(path, x=name, seed=3, batch_size=16, **more) as loader:
            return [(indices, *arrays) for _, indices, arrays in loader.batches()]

    expected = epoch(local)
    for path in ("s3://films/set/*.h5", [f"s3://films/set/{number}.h5" for number in range(3)]):
        found = epoch(path, storage_options=options)
        assert len(found) == len(expected) == 4
        for batch, other in zip(found, expected, strict=True):
            for array, values in zip(batch, other, strict=True):
                np.testing.assert_array_equal(array, values)


@pytest.mark.usefixtures("bucket")
def test_the_tools_read_them(tmp_path, options):
    report = h5v.inspect("s3://films/set/1.h5", storage_options=options)
    assert [item.name for item in report.datasets] == ["X", "Y", "gzip", "rows"]
    h5v.repack("s3://films/set/*.h5", tmp_path / "a.h5", shards=2, storage_options=options)
    found = []
    for number in range(2):
        with h5py.File(tmp_path / f"a-0000{number}-of-00002.h5") as file:
            found.append(file["X"][()])
    np.testing.assert_array_equal(np.concatenate(found), X)


@pytest.mark.usefixtures("bucket")
def test_index_and_cache(tmp_path, options):
    arguments = {"x": "gzip", "shuffle": False, "storage_options": options}
    with h5v.VideoLoader("s3://films/set/*.h5", **arguments) as loader:
        loader.save_index(tmp_path / "set.h5i")
    local = {"index": tmp_path / "set.h5i", "cache_dir": tmp_path / "cache"}
    with h5v.VideoLoader("s3://films/set/*.h5", **arguments, **local) as loader:
        for _ in range(2):
            batches = [(numbers, x.copy()) for _, numbers, (x, _) in loader.batches()]
            for numbers, x in batches:
                np.testing.assert_array_equal(x, X[numbers])
    for path in (tmp_path / "set.h5i", *(tmp_path / "cache").rglob("*-*")):
        raw = path.read_bytes()
        body = zlib.decompress(raw.partition(b"\n")[2][32:]) if path.suffix == ".h5i" else raw
        assert SECRET.encode() not in body


def test_an_index_is_refused_when_an_object_has_changed(bucket, tmp_path, options):
    with h5v.VideoLoader("s3://films/set/*.h5", storage_options=options) as loader:
        loader.save_index(tmp_path / "set.h5i")
    bucket.put_object(Bucket="films", Key="set/1.h5", Body=content(2))
    local = {"index": tmp_path / "set.h5i", "storage_options": options}
    with pytest.raises(FileChangedError, match=r"s3://films/set/1\.h5 was changed.*set\.h5i"):
        h5v.VideoLoader("s3://films/set/*.h5", **local)


def test_an_object_that_changes_is_an_error(bucket, options):
    with h5v.VideoLoader("s3://films/set/*.h5", storage_options=options, x="gzip") as loader:
        next(loader.batches())
        bucket.put_object(Bucket="films", Key="set/1.h5", Body=content(2))
        with pytest.raises(FileChangedError, match=r"s3://films/set/1\.h5 was changed.*ETag"):
            [*loader.batches()]


@pytest.mark.usefixtures("bucket")
def test_what_is_not_there(options, send_with):
    send_with(deadline_seconds=20)
    with pytest.raises(VideoFileNotFoundError, match=r"s3://films/none\.h5"):
        h5v.VideoLoader("s3://films/none.h5", storage_options=options)
    with pytest.raises(VideoFileNotFoundError, match=r"No file matches.*s3://films/none/\*\.h5"):
        h5v.VideoLoader("s3://films/none/*.h5", storage_options=options)
    with pytest.raises((VideoFileNotFoundError, UnavailableError)):
        h5v.VideoLoader("s3://no-such-bucket/none.h5", storage_options=options)


@pytest.mark.usefixtures("bucket")
def test_credentials_are_shown_nowhere(options):
    shown = []
    with h5v.VideoLoader("s3://films/set/*.h5", storage_options=options) as loader:
        shown += [repr(loader), str(loader), repr(loader._options), repr(loader._set.paths)]
        shown.append(json.dumps(loader.state_dict(epoch=0, step=1)))
    for path, more in (
        ("s3://films/set/*.h5", {"endpoint_url": "http://127.0.0.1:9"}),
        ("s3://films/none.h5", {}),
        ("s3://films/set/0.h5", {"no_such_argument": SECRET}),
    ):
        with pytest.raises(h5v.errors.H5VideoError) as caught:
            h5v.VideoLoader(
                path,
                storage_options={**options, **more},
                remote_options={"deadline_seconds": 1},
                x="none",
            )
        shown.append("".join(traceback.format_exception(caught.value)))
    assert not [text for text in shown if SECRET in text]
