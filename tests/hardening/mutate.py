"""Changed copies of honest files."""

import struct

import numpy as np

_NUMBERS = (0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)


def mutated(contents: bytes, rng: np.random.Generator) -> bytes:
    """A copy with bytes flipped, replaced, dropped, doubled, cut off, or overwritten by a number of 32 or 64 bits."""
    out = bytearray(contents)
    at, length = int(rng.integers(len(out))), int(rng.integers(1, 9))
    match rng.integers(8):
        case 0:
            out[at] ^= 1 << int(rng.integers(8))
        case 1 | 2:
            for place in rng.integers(len(out), size=length):
                out[place] = rng.integers(256)
        case 3:
            del out[at : at + length * int(rng.integers(1, 64))]
        case 4:
            out[at:at] = out[at : at + 8 * length]
        case 5:
            del out[at:]
        case 6:
            layout = str(rng.choice(["<q", "<i", ">i", ">q"]))
            value = int(rng.choice(_NUMBERS))
            size = struct.calcsize(layout)
            out[at : at + size] = (value % 256**size).to_bytes(size, "little" if layout[0] == "<" else "big")
        case 7:
            out[at:at] = rng.bytes(length)
    return bytes(out)
