"""Letters of five by eight pixels, to write labels into pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The characters from " " to "~": five columns each, of which bit 0 is the top pixel.
_COLUMNS = bytes.fromhex(
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649552250 0000070300"
    "001c224100 0041221c00 14083e0814 08083e0808 0050300000 0808080808 0060600000 2010080402"
    "3e5149453e 00427f4000 4261514946 2141454b31 1814127f10 2745454539 3c4a494930 0171090503"
    "3649494936 064949291e 0036360000 0056360000 0814224100 1414141414 0041221408 0201510906"
    "324979413e 7e1111117e 7f49494936 3e41414122 7f4141221c 7f49494941 7f09090901 3e4149497a"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f020c027f 7f0408107f 3e4141413e"
    "7f09090906 3e4151215e 7f09192946 4649494931 01017f0101 3f4040403f 1f2040201f 3f4038403f"
    "6314081463 0708700807 6151494543 007f414100 0204081020 0041417f00 0402010204 4040404040"
    "0001020400 2054545478 7f48444438 3844444420 384444487f 3854545418 087e090102 18a4a49c78"
    "7f08040478 00447d4000 2040443d00 7f10284400 00417f4000 7c04180478 7c08040478 3844444438"
    "fc18242418 18242418fc 7c08040408 4854545420 043f444020 3c4040207c 1c2040201c 3c4030403c"
    "4428102844 4c9090907c 4464544c44 0008364100 00007f0000 0041360800 0804081008".replace(" ", "")
)
_FONT = np.unpackbits(
    np.frombuffer(_COLUMNS, np.uint8).reshape(-1, 5, 1), axis=2, bitorder="little"
).transpose(0, 2, 1)

LETTER_WIDTH, LETTER_HEIGHT = 6, 8


def written(text: str, scale: int = 1) -> NDArray[np.bool_]:
    """Returns a line of text as pixels, (8 scale, 6 scale letters); `?` for other characters."""
    codes = [ord(letter) - 32 for letter in text]
    letters = [_FONT[code if 0 <= code < len(_FONT) else ord("?") - 32] for code in codes]
    if not letters:
        return np.zeros((LETTER_HEIGHT * scale, 0), np.bool_)
    spaced = np.concatenate([np.pad(letter, ((0, 0), (0, 1))) for letter in letters], axis=1)
    return np.kron(spaced, np.ones((scale, scale), np.uint8)).astype(np.bool_)
