import json
import re
import shlex

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data.storage import chunk_runs
from h5video_data.storage.hdf5_files import open_file
from h5video_data.testing import write_recordings, write_video_file
from h5video_data.tools import inspection
from h5video_data.tools.cli import main
from h5video_data.tools.inspecting import probe
from h5video_data.tools.inspecting.file_facts import read_file

CASES = {
    "contiguous": ({}, "direct", 1.0, ""),
    "one_sample_chunks": ({"chunks": (1, 4, 3, 8, 8), "compression": "gzip"}, "direct", 1.0, ""),
    "many_sample_chunks": ({"chunks": (10, 4, 3, 8, 8)}, "direct", 1.0, ""),
    "many_compressed": (
        {"chunks": (10, 4, 3, 8, 8), "compression": "gzip"},
        "chunks",
        10.0,
        "",  # the default memory decodes each chunk once
    ),
    "cut_rows": ({"chunks": (1, 4, 3, 8, 5), "compression": "lzf"}, "chunks", 10 / 8, ""),
    "edge": ({"chunks": (1, 3, 3, 8, 8), "compression": "gzip"}, "direct", 6 / 4, ""),
    "big_chunks": (
        {"chunks": (1, 8, 3, 8, 8), "maxshape": (None,) * 5, "compression": "gzip"},
        "direct",
        2.0,
        "store it anew (15.0 KiB; with --compression lzf, less): h5video-data repack {file} {fast}",
    ),
    "scale_offset": (
        {"chunks": (1, 4, 3, 8, 8), "scaleoffset": 8},
        "h5py",
        1.0,
        "to have it read directly (15.0 KiB; with --compression lzf, less): h5video-data repack ",
    ),
    "big_endian": ({"dtype": ">u2"}, "direct", 1.0, ""),
    "external": (
        {"external": [("raw.bin", 0, h5py.h5f.UNLIMITED)]},
        "h5py",
        1.0,
        "store it anew to have it read directly: h5video-data repack {file} {fast}",
    ),
    "floats": (
        {"dtype": "float32"},
        "direct",
        1.0,
        "uint8 takes a quarter of the bytes: repack --dtype uint8, with --scale",
    ),
}


@pytest.mark.parametrize(("options", "path", "amplification", "advice"), CASES.values(), ids=CASES)
def test_each_layout(tmp_path, monkeypatch, options, path, amplification, advice):
    monkeypatch.chdir(tmp_path)  # external files are looked for from there
    file = write_video_file(tmp_path / "a.h5", **options)
    whole = h5v.inspect(file)
    assert whole.call is None
    report = whole.datasets[0]
    assert (report.name, report.path) == ("X", path)
    assert report.read_amplification == pytest.approx(amplification)
    assert bool(report.reason) == (path != "direct")
    advice = advice.format(file=file, fast=tmp_path / "a_fast.h5")
    assert advice in " ".join(report.advice)
    assert bool(report.advice) == bool(advice)


def test_report_of_a_whole_file(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=20)
    with h5py.File(file, "a") as opened:
        opened.attrs["class_names"] = ["a", "b", "c", "d"]
        opened["group/names"] = np.array([b"x", b"y"], dtype=object)
        opened["scalar"] = 3
        opened["elsewhere"] = h5py.SoftLink("/X")
        opened["nowhere"] = h5py.SoftLink("/Z")
    report = h5v.inspect(file)
    assert report.sample_count == 20
    assert report.call is None
    assert report.class_names == ("a", "b", "c", "d")
    assert {item.name: item.path for item in report.datasets} == {
        "X": "direct",
        "Y": "memory",
        "group/names": "memory",
        "scalar": "none",
        "elsewhere": "direct",
    }
    assert report.nbytes == (tmp_path / "a.h5").stat().st_size
    assert report.problems == ("the link 'nowhere' leads to '/Z', which does not exist",)
    text = str(report)
    assert "X: (20, 4, 3, 8, 8) uint8, 15.0 KiB" in text
    assert "classes (a, b, c, d)" in text
    assert "bytes; strings, which `y` reads as class numbers" in text
    assert json.loads(json.dumps(report.to_dict()))["datasets"][0]["shape"] == [20, 4, 3, 8, 8]


def test_problems_are_told_not_raised(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=20)
    with h5py.File(file, "a") as opened:
        opened.attrs["sample_count"] = 21
    assert "must be between 0 and 20" in h5v.inspect(file).problems[0]
    with h5py.File(tmp_path / "b.h5", "w"):
        pass
    assert h5v.inspect(tmp_path / "b.h5").problems == ("it holds no dataset",)


def test_links_have_the_names_that_are_to_be_given(tmp_path):
    write_video_file(tmp_path / "a.h5", num_samples=20)
    with h5py.File(tmp_path / "links.h5", "w") as opened:
        opened["set/clips"] = h5py.ExternalLink("a.h5", "/X")
        opened["set/again"] = h5py.SoftLink("/set")
        opened["all"] = h5py.ExternalLink("a.h5", "/")
        opened["here"] = h5py.SoftLink("/")
        opened["gone"] = h5py.ExternalLink("gone.h5", "/X")
        opened["loop"] = h5py.SoftLink("/loop")
    report = h5v.inspect(tmp_path / "links.h5")
    names = [item.name for item in report.datasets]
    assert sorted(names) == ["all/X", "all/Y", "set/clips"]
    for name in names:
        assert h5v.VideoLoader(tmp_path / "links.h5", x=name, y=None).num_samples == 20
    gone = "the link 'gone' leads to '/X' in 'gone.h5', which does not exist or cannot be opened"
    assert set(report.problems) == {gone, "the link 'loop' leads to '/loop', which does not exist"}


def test_dtypes_that_are_not_supported(tmp_path):
    three_bytes = h5py.h5t.STD_U32LE.copy()
    three_bytes.set_precision(24)
    three_bytes.set_size(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        h5py.h5d.create(file.id, b"X", three_bytes, h5py.h5s.create_simple((5, 4)))
        file["Y"] = np.zeros(5, np.longdouble)
        file["date"] = np.zeros(5, h5py.opaque_dtype(np.dtype("M8[s]")))
        file["names"] = ["a", "b"]
    report = h5v.inspect(tmp_path / "a.h5")
    assert {item.name: (item.dtype, item.reason) for item in report.datasets} == {
        "X": ("unknown", "its dtype is not supported"),
        "Y": (np.dtype(np.longdouble).name, "its dtype is not supported"),
        "date": ("datetime64[s]", "its values are not numbers"),
        "names": ("string", "strings, which `y` reads as class numbers"),
    }
    assert report.datasets[0].nbytes == 5 * 4 * 3
    assert "X: (5, 4) unknown, 60 bytes" in str(report)


# Advice, followed to the letter


def follow(command):
    """Runs what is to be typed, as a shell does; returns the file that it writes."""
    program, *arguments = shlex.split(command)
    assert program == "h5video-data"
    assert main([*arguments, "--quiet"]) == 0
    return arguments[2]


def write_layouts(path):
    """Datasets that are to be stored anew, each for another reason, and of two lengths."""
    with h5py.File(path, "w") as file:
        for group, count in (("train", 30), ("test", 10)):
            values = np.arange(count * 4 * 8 * 8).reshape(count, 4, 8, 8).astype(np.uint8)
            many = {"chunks": (1, 8, 8, 8), "maxshape": (None,) * 4, "compression": "gzip"}
            file.create_dataset(f"{group}/X", data=values, **many)
            file.create_dataset(f"{group}/-flow", data=values, chunks=(1, 4, 8, 8), scaleoffset=8)
            file.create_dataset(f"{group}/small", data=values, chunks=(1, 1, 4, 4))
            file[f"{group}/Y"] = np.arange(count)


def test_commands_do_what_they_say(tmp_path):
    path = tmp_path / "a b.h5"
    write_layouts(path)
    (tmp_path / "a b_fast.h5").write_bytes(b"")  # a name that is taken
    report = h5v.inspect(path)
    commands = {item.command for item in report.advice}
    assert len(commands) == 2  # not one for each dataset, whose outputs would be the same file
    for group, num_rows in (("train", 30), ("test", 10)):
        (command,) = {item.command for item in report.advice if item.datasets[0].startswith(group)}
        out = follow(command)
        again = [item for item in h5v.inspect(out).datasets if item.name.startswith(group)]
        assert {item.path for item in again if len(item.shape) > 2} == {"direct"}
        assert not any(item.advice for item in again)
        loader = h5v.VideoLoader(out, x=f"{group}/X", y=f"{group}/Y")
        assert loader.num_samples == num_rows
        with h5py.File(path) as old, h5py.File(out) as new:
            for name in ("X", "-flow", "small"):
                np.testing.assert_array_equal(new[group][name][()], old[group][name][()])


@pytest.mark.parametrize("name", ["X", "-x"])
def test_a_name_like_an_option(tmp_path, name):
    write_video_file(tmp_path / "a.h5", chunks=(1, 4, 3, 8, 8), scaleoffset=8)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.move("X", name)
    (advice,) = h5v.inspect(tmp_path / "a.h5").advice
    assert h5v.inspect(follow(advice.command)).datasets[0].path in ("direct", "memory")


def test_no_command_where_it_would_fail(tmp_path):
    file = write_video_file(tmp_path / "a.h5", chunks=(1, 4, 3, 8, 8), scaleoffset=8)
    with h5py.File(file, "a") as opened:
        opened.attrs["sample_count"] = 21
    assert h5v.inspect(file).advice == ()
    with h5py.File(file, "a") as opened:
        opened.attrs["sample_count"] = 0
    assert h5v.inspect(file).advice == ()


def test_memory_is_what_decodes_each_chunk_once(tmp_path):
    shape = (8, 3, 32, 32)
    file = write_video_file(
        tmp_path / "a.h5", num_samples=400, sample_shape=shape, chunks=(50, *shape), compression=1
    )
    assert h5v.inspect(file).datasets[0].epoch_amplification == 1  # with the default
    little = h5v.inspect(file, read_ahead_bytes=6 << 20)
    assert little.datasets[0].epoch_amplification > 2
    wanted = int(re.match(r"read_ahead_bytes=(\d+) ", little.advice[0].text)[1])
    assert 400 * 8 * 3 * 32 * 32 < wanted < 64 << 20
    enough = h5v.inspect(file, read_ahead_bytes=wanted)
    assert enough.datasets[0].epoch_amplification == 1
    assert enough.advice == ()
    # And so the loader does: what is read is what is stored, once.
    decoded = {}
    for memory in (6 << 20, wanted):
        with h5v.VideoLoader(file, y=None, seed=0, read_ahead_bytes=memory) as loader:
            for _ in loader:
                pass
            decoded[memory] = loader.stats.read_bytes / little.datasets[0].stored_nbytes
    assert decoded[wanted] < 1.3  # with the beginning of the next epoch
    assert decoded[6 << 20] == pytest.approx(little.datasets[0].epoch_amplification, rel=0.35)


def test_unwritten_chunks(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", (20, 4, 3, 8, 8), "u1", chunks=(1, 4, 3, 8, 8))[:15] = 1
    report = h5v.inspect(tmp_path / "a.h5")
    assert report.datasets[0].num_unwritten_chunks == 5
    assert report.advice[0].text == "5 of 20 chunks were never written, and are read as 0"
    assert "(5 of 20 never written)" in str(report)


@pytest.mark.parametrize(
    ("compression", "rows", "is_told"),
    [("gzip", 8, True), (None, 8, False), ("gzip", 500, False)],
)
def test_small_chunks_without_the_helper(tmp_path, monkeypatch, compression, rows, is_told):
    monkeypatch.setattr(chunk_runs, "HAS_HELPER", False)
    shape = (3, 4, 3, rows, rows)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", shape, "u1", chunks=(1, *shape[1:]), compression=compression)[
            :
        ] = 1
    texts = [item.text for item in h5v.inspect(tmp_path / "a.h5").advice]
    assert any("C compiler" in text for text in texts) == is_told


def test_samples_have_a_call_too(tmp_path):
    file = write_video_file(tmp_path / "a.h5")
    assert h5v.inspect(file).sample_call == f'h5v.video_dataset_from_hdf5("{file}")'
    with h5py.File(file, "a") as opened:
        opened.move("X", "train/clips")
        opened.move("Y", "train/labels")
    call = h5v.inspect(file).sample_call
    assert call == f'h5v.video_dataset_from_hdf5("{file}", x="train/clips", y="train/labels")'
    assert h5v.VideoLoader(file, x="train/clips", y="train/labels").num_samples == 20


def test_many_datasets_are_a_table(tmp_path):
    write_recordings(tmp_path / "a.h5", [5] * 200, layout="groups")
    lines = str(h5v.inspect(tmp_path / "a.h5")).splitlines()
    assert len(lines) < 10
    assert any("data/demo_*/actions  x200" in line for line in lines)


def test_a_page_needs_no_network_and_escapes_names(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=8, chunks=(4, 4, 3, 8, 8))
    with h5py.File(file, "a") as opened:
        opened.attrs["class_names"] = ["<b>", "b", "c", "d"]
        opened["<script>"] = [1]
    report = h5v.inspect(file, html=tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=.(?!data:)", page)
    assert page.count("data:image/png") == 6
    assert report.class_counts == (("<b>", 2), ("b", 2), ("c", 2), ("d", 2))
    assert "<svg" in page
    assert "prefers-color-scheme:dark" in page
    assert "<!doctype" not in report._repr_html_()


def test_a_map_shows_samples_of_the_whole_set(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        x = file.create_dataset("X", (1001, 6, 4, 4), "u1", chunks=(4, 3, 4, 4))
        x[:500] = 1
        file.create_dataset("few", (3, 6, 4, 4), "u1", chunks=(3, 3, 4, 4))[:] = 1
        file.create_dataset(
            "none", (0, 6, 4, 4), "u1", chunks=(4, 3, 4, 4), maxshape=(None, 6, 4, 4)
        )
    with open_file(str(tmp_path / "a.h5")) as file:
        large, few = inspection._maps(read_file(file, None).facts, "sample")
    assert large.name == "X"
    assert (large.firsts[0], large.firsts[-1], len(large.firsts)) == (0, 1000, 24)
    assert (np.diff(large.firsts) > 30).all()
    assert large.is_written == tuple(first < 500 for first in large.firsts)
    assert (few.firsts, few.is_written) == ((0,), (True,))
    h5v.inspect(tmp_path / "a.h5", html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "24 of 251 rows of chunks, spread over all 1,001 samples, from left to right" in page
    # The sample in red lies in the row of chunks in blue, the middle one that is drawn.
    number = int(re.search(r"red, number ([0-9,]+)\)", page)[1].replace(",", ""))
    assert large.firsts[12] <= number < large.firsts[12] + 4
    assert "2 chunks, of 4 samples each. Chunks that were never written are dashed" in page
    assert "all 3 samples from left to right" in page


def test_one_fault_has_one_advice(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shape, chunks = (600, 4, 8, 8), (60, 4, 8, 8)
        file.create_dataset("X", data=np.ones(shape, "u1"), chunks=chunks, compression="gzip")
    (advice,) = h5v.inspect(tmp_path / "a.h5", read_ahead_bytes=0).advice
    assert advice.command is None
    found = re.fullmatch(
        r"read_ahead_bytes=(\d+) decodes each chunk once an epoch, .*", advice.text
    )
    report = h5v.inspect(tmp_path / "a.h5", read_ahead_bytes=int(found[1]))
    assert report.advice == ()
    assert "for it alone; in a shuffled epoch, with the cache, each chunk once" in str(report)
    assert "each chunk 1 times" not in str(report)


def test_a_page_of_many_recordings_is_short(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(7):
            shape = (60 + number, 24, 32, 3)
            data = np.full(shape, number, np.uint8)
            file.create_dataset(f"data/demo_{number}/view", data=data, chunks=shape, compression=4)
    h5v.inspect(tmp_path / "a.h5", read_ahead_bytes=0, html=tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "data/demo_0/view, data/demo_1/view, data/demo_2/view, and 4 more</code>: store" in page
    assert page.count("from left to right") == 1
    assert "data/demo_6/view</code>: all 66 frames from left to right" in page
    assert "Reading one frame (red" in page


def test_what_the_call_would_raise_is_a_problem(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["Y"] = np.zeros((0, 4, 8, 8), "u1"), np.zeros((0, 2), "f4")
    (problem,) = h5v.inspect(tmp_path / "a.h5").problems
    assert problem.startswith("There is no sample in ")


def test_what_opening_logs_is_logged_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("h5video_data.tools.inspecting.probe.PROBE_SECONDS", 0.1)
    file = write_recordings(tmp_path / "a.h5", [20, 31, 3, 2], frame_shape=(8, 8, 3))
    report = h5v.inspect(file, html=tmp_path / "a.html", probe=True)
    assert report.samples_per_second is not None
    (message,) = caplog.messages
    assert message == (
        "2 of 4 recordings of 'pixels' are shorter than a window (11 rows) and left out, such as "
        f"number 2 (3 rows) in {file}."
    )
    caplog.clear()
    one = write_recordings(tmp_path / "b.h5", [20, 31, 1], frame_shape=(8, 8, 3))
    h5v.inspect(one)
    (message,) = caplog.messages
    assert message == (
        "1 of 3 recordings of 'pixels' is shorter than a window (16 rows) and left out, such as "
        f"number 2 (1 row) in {one}."
    )


@pytest.mark.parametrize(("scale", "dtype", "part"), [(1, "f8", "an eighth"), (255, "f2", "half")])
def test_the_advice_about_floats_can_be_followed(tmp_path, scale, dtype, part):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 8, 8), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = (pixels / scale).astype(dtype)
    (advice,) = h5v.inspect(tmp_path / "a.h5").advice
    assert f"uint8 takes {part} of the bytes: repack --dtype uint8, with --scale 255 if" in str(
        advice
    )
    scaled = ["--scale", "255"] if scale == 255 else []
    files = [str(tmp_path / "a.h5"), str(tmp_path / "b.h5")]
    assert main(["repack", *files, "--dtype", "uint8", *scaled]) == 0
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(file["X"][:], pixels)
    assert not h5v.inspect(tmp_path / "b.h5").advice


def test_labels_and_scalars_are_a_line_each(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["Y"] = np.zeros((6, 4, 3, 8, 8), "u1"), np.zeros((6, 2), "f4")
        file["rate"] = 25.0
    lines = str(h5v.inspect(tmp_path / "a.h5")).splitlines()
    assert lines[-5:] == [
        "X: (6, 4, 3, 8, 8) uint8, 4.5 KiB",
        "  stored    contiguous",
        "  read by   byte ranges, each sample straight into its place",
        "Y: (6, 2) float32, 48 bytes; it is small, as labels are: read once and kept",
        "rate: () float64, 8 bytes; it has no samples",
    ]


def test_bytes_that_are_not_decoded_twice_are_not_one_times(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=np.zeros((200, 4, 3, 32, 32), "u1"), chunks=(50, 1, 1, 8, 8))
    text = str(h5v.inspect(tmp_path / "a.h5", read_ahead_bytes=500_000))
    assert re.search(
        r"decodes   the bytes of a sample, for it alone; .* each chunk [\d.]+ times", text
    )


def page_of(path, **options):
    report = h5v.inspect(path, html=path.with_suffix(".html"), **options)
    return report, path.with_suffix(".html").read_text()


def test_a_page_of_problems(tmp_path):
    path = tmp_path / "a.h5"
    write_video_file(path)
    with h5py.File(path, "a") as file:
        file.attrs["sample_count"] = 21
    report, page = page_of(path)
    problem = report.problems[0].replace("'", "&#x27;").replace("`", "`")
    assert f'<h2 class="bad">Problems</h2><ul><li>{problem}' in page
    assert "<h2>Advice</h2>" not in page
    assert "They cannot be shown: " in page


def test_a_page_of_a_file_without_samples(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["names"] = ["a", "b"]
    report, page = page_of(tmp_path / "a.h5")
    assert (report.call, report.sample_call) == (None, None)
    assert "Open it" not in page
    assert "<p>They cannot be shown: no dataset looks like samples or recordings</p>" in page


def test_a_page_with_predictions(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.05)
    write_video_file(tmp_path / "a.h5")
    report, page = page_of(tmp_path / "a.h5", probe=True)
    assert any(item.samples_per_second for item in report.datasets)
    assert re.search(r"Predicted: (<b>)?[0-9.,]+ ", page)


def test_no_prediction_where_nothing_was_measured(tmp_path, monkeypatch):
    write_video_file(tmp_path / "a.h5")
    monkeypatch.setattr(probe, "rate", lambda *_, **__: None)
    assert h5v.inspect(tmp_path / "a.h5", probe=True).datasets[0].samples_per_second is None


def test_sizes_are_told_in_units_of_their_own():
    sizes = [1, 1023, 1024, 5 << 20, 3 << 30, 2 << 40, 5000 << 40]
    texts = ["1 byte", "1023 bytes", "1.0 KiB", "5.0 MiB", "3.0 GiB", "2.0 TiB", "5000.0 TiB"]
    assert [inspection.size_text(size) for size in sizes] == texts
