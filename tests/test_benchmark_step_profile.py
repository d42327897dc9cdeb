"""What is read from a profiler's trace, and a rehearsal of it on the CPU."""

import numpy as np
import pytest
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import step_profile
from benchmarks.settings import UsageError
from benchmarks.step_profile import main, read_trace

MS = 10**9  # picoseconds


def write_trace(path, lines, name="/device:GPU:0"):
    """A trace with a device's lines: (name, begin in ns, [(event, begin and end in ms), ...])."""
    space = xplane_pb2.XSpace()
    space.planes.add(name="/host:CPU")
    plane = space.planes.add(name=name)
    for line_name, start, events in lines:
        line = plane.lines.add(name=line_name, timestamp_ns=start)
        for event, begin, end in events:
            number = len(plane.event_metadata) + 1
            plane.event_metadata[number].name = event
            line.events.add(
                metadata_id=number, offset_ps=int(begin * MS), duration_ps=int((end - begin) * MS)
            )
    path.write_bytes(space.SerializeToString())
    return path


def test_computing_and_copying(tmp_path):
    path = write_trace(
        tmp_path / "a.xplane.pb",
        [
            ("Stream #13(Compute)", 10**9, [("conv", 0, 3), ("dense", 1, 2), ("relu", 7, 8)]),
            ("Stream #14(MemcpyH2D)", 10**9 + 10**6, [("MemcpyH2D", 1, 5)]),
            ("Stream #15(Compute)", 10**9, [("within", 0.5, 0.9), ("late", 9, 10)]),
            ("XLA Modules", 10**9, [("jit_train_step", 0, 10)]),
            ("CUPTI overhead", 10**9, [("BUFFER_FLUSH", 3, 7), ("conv", 8.5, 9)]),
        ],
    )
    timeline = read_trace(path)
    np.testing.assert_allclose(
        timeline.computing, np.array([[0, 3], [7, 8], [8.5, 10]]) / 1000, atol=1e-9
    )
    np.testing.assert_allclose(timeline.copying, np.array([[2, 6]]) / 1000, atol=1e-9)
    assert timeline.seconds == pytest.approx(0.010)
    assert timeline.busy_share == pytest.approx(0.55)
    assert timeline.longest_gap == pytest.approx(0.004)


def test_a_trace_without_the_device(tmp_path):
    path = write_trace(tmp_path / "a.xplane.pb", [], name="/device:TPU:0")
    with pytest.raises(UsageError, match="The trace has: /host:CPU, /device:TPU:0"):
        read_trace(path)
    path = write_trace(path, [("Kernels", 0, [("conv", 0, 1)])])
    with pytest.raises(UsageError, match=r"/device:GPU:0, with \['Kernels'\]"):
        read_trace(path)


def test_a_rehearsal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(step_profile, "WARM_STEPS", 3)
    monkeypatch.setattr(step_profile, "TRACED_STEPS", 2)
    plot = tmp_path / "steps.png"
    sizes = ["--samples", "16", "--sample-shape", "2", "3", "16", "16", "--batch-size", "4"]
    assert main(["--cpu", "--model", "tiny", *sizes, "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    assert "2 steps of the tiny model, batch 4, contiguous, on CPU, Keras on tensorflow" in text
    assert [line.split()[0] for line in text.splitlines()[1:]] == list(step_profile.FEEDS)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_without_a_gpu(monkeypatch, capsys):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert main([]) == 2
    assert "no GPU was found" in capsys.readouterr().err
