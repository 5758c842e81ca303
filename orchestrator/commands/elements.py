"""How far two stretches of elements are apart, by the dtype names of the safetensors format. numpy, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

_PLAIN: Final = {
    "BOOL": "u1", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}  # fmt: skip
_EIGHT_BITS: Final = {"F8_E4M3": (4, 7), "F8_E5M2": (5, 15)}
"""Bits of the exponent, and its bias."""


@dataclass(slots=True)
class Distance:
    """Of two tensors of one dtype and shape. `largest`: the largest absolute difference; NaN where none is a number."""

    elements: int = 0
    differing: int = 0
    largest: float = math.nan

    def add(self, dtype: str, first: memoryview, second: memoryview) -> None:
        """Two stretches of the same whole elements. They differ where their bits do."""
        width = np.dtype(_PLAIN.get(dtype, "<u2" if dtype == "BF16" else "u1")).itemsize
        bits = f"<u{width}"
        differ = np.frombuffer(first, bits) != np.frombuffer(second, bits)
        self.elements += differ.size
        found = int(np.count_nonzero(differ))
        self.differing += found
        if found:
            with np.errstate(all="ignore"):  # inf - inf, and what is not a number.
                apart = np.abs(_values(dtype, first)[differ] - _values(dtype, second)[differ])
            numbers = apart[~np.isnan(apart)]
            if numbers.size:
                self.largest = float(max(np.max(numbers), -math.inf if math.isnan(self.largest) else self.largest))


def _values(dtype: str, data: memoryview) -> Any:
    """As float64 or complex128, in which all but the largest integers are exact."""
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype("f8")
    if dtype in _EIGHT_BITS:
        return np.array([_eight_bits(code, *_EIGHT_BITS[dtype]) for code in range(256)])[np.frombuffer(data, "u1")]
    return np.frombuffer(data, _PLAIN[dtype]).astype("c16" if dtype == "C64" else "f8")


def _eight_bits(code: int, exponent_bits: int, bias: int) -> float:
    """A float of 8 bits. E4M3 has no infinity: only all ones are not a number."""
    mantissa_bits = 7 - exponent_bits
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = (code & 0x7F) >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
    top = (1 << exponent_bits) - 1
    if exponent == top and exponent_bits == 5:
        return math.nan if mantissa else sign * math.inf
    if code & 0x7F == 0x7F:
        return math.nan
    if not exponent:
        return sign * math.ldexp(mantissa, 1 - bias - mantissa_bits)
    return sign * math.ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)
