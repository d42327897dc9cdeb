"""What tests that watch the decoding of chunks share."""

from h5video_data.reading import sample_sources, stored_chunks
from h5video_data.storage import filters


def before_each_chunk(monkeypatch, call):
    """Has chunks decoded one by one, and something called before each."""

    def decode_chunk(*arguments):
        call()
        filters.decode_chunk(*arguments)

    monkeypatch.setattr(stored_chunks, "run_codec", lambda _: None)
    for module in (stored_chunks, sample_sources):
        monkeypatch.setattr(module, "decode_chunk", decode_chunk)
