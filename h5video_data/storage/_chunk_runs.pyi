def decode(
    codec: str,
    functions: tuple[int, int, int],
    source: int,
    starts: int,
    sizes: int,
    target: int,
    places: int,
    nbytes: int,
    num_chunks: int,
    /,
) -> int: ...
