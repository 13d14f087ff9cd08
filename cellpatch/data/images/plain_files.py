"""Decode plain PNG and JPEG files at a third of Pillow's time; whatever is odd about a file is left to Pillow.

Plain is one image of 8-bit RGB without transparency, orientation, colour profile or animation, whole to its last byte.
A file that is not plain, or that the decoder refuses, gives None.
"""

import struct
import zlib

import imagecodecs
import numpy as np
from jaxtyping import UInt8

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_IHDR = struct.Struct(">IIBBBBB")  # width, height, bits, colour type, compression, filter, interlace
_LENGTH_AND_NAME = struct.Struct(">I4s")
_RGB = (8, 2, 0, 0, 0)  # bits, colour type, compression, filter, interlace
_WITHOUT_EFFECT = {b"IDAT", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"tIME", b"gAMA", b"sRGB", b"cHRM", b"sBIT", b"bKGD"}
_APP0, _COMMENT, _TABLES = 0xE0, 0xFE, {0xC4, 0xDB, 0xDD}  # JFIF; Huffman tables, quantisation, restarts
_FRAMES = {0xC0, 0xC1}  # baseline and extended; of progressive ones damage goes unnoticed


def decode_plain(data: bytes, most_pixels: int) -> UInt8[np.ndarray, "h w 3"] | None:
    """The pixels of a plain file with at most this many of them, else None."""
    if data.startswith(_PNG):
        size, decoder = _size_of_png(data), imagecodecs.png_decode
    elif data.startswith(_JPEG):
        size, decoder = _size_of_jpeg(data), imagecodecs.jpeg8_decode
    else:
        return None
    if size is None or not 0 < size[0] * size[1] <= most_pixels:
        return None
    try:
        pixels = decoder(data)
    except (RuntimeError, ValueError):  # Pillow's message is the one that users know
        return None
    return pixels if pixels.shape == (*size, 3) and pixels.dtype == np.uint8 else None


def _size_of_png(data: bytes) -> tuple[int, int] | None:
    """Height and width of a plain PNG whose chunks are whole and of no effect beside its pixels."""
    at, size, name = len(_PNG), None, b""
    while at + 12 <= len(data):
        length, name = _LENGTH_AND_NAME.unpack_from(data, at)
        end = at + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return None
        if name == b"IHDR" and size is None and length == _IHDR.size:
            width, height, *kind = _IHDR.unpack_from(data, at + 8)
            if tuple(kind) != _RGB:
                return None
            size = height, width
        elif name == b"IEND":
            return size
        elif size is None or name not in _WITHOUT_EFFECT:
            return None
        at = end + 4
    return None


def _size_of_jpeg(data: bytes) -> tuple[int, int] | None:
    """Height and width of a plain JPEG of three colours, up to its first scan; its last bytes must end the image."""
    at, size = len(_JPEG), None
    if not data.endswith(b"\xff\xd9"):
        return None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            return size
        if marker in _FRAMES and size is None and length >= 8:
            bits, height, width, colours = struct.unpack_from(">BHHB", data, at + 4)
            if (bits, colours) != (8, 3):
                return None
            size = height, width
        elif marker not in _TABLES and marker not in (_APP0, _COMMENT):
            return None
        at += 2 + length
    return None
