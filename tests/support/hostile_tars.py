"""Tars of strangers: sizes beyond the file, links, other kinds of members, odd names."""

import gzip
import struct
import tarfile
import zlib

from small_records import picture


def member(name, data=b"", **fields):
    """A header of a tar with its data, whatever the fields say."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % 512)


def resized(header, field):
    """A tar header with other bytes in its size field, and the right checksum."""
    header = bytearray(header)
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


def pair(name):
    """An image and its caption in a tar, in order."""
    return member(f"{name}.png", picture(3)) + member(f"{name}.txt", b"a cat")


def tars(folder):
    """Archives: each holds one good record beside what is wrong with it."""
    good, end, png = pair("good"), bytes(1024), picture(9)
    linked = member("l.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    hard = member("h.png", type=tarfile.LNKTYPE, linkname="good.png")
    huge = resized(member("a.png", png), b"77777777777\0")
    base256 = resized(member("a.png", png), b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7)
    negative = resized(member("a.png", png), b"\xff" * 11 + b"\xf0")
    odd = resized(member("a.png", png), b"-0000000001\0")
    sparse = member("s.png", b"", type=tarfile.GNUTYPE_SPARSE)
    contents = {
        "beyond": good + huge,
        "base256": good + base256,
        "negative": good + negative,
        "minus": good + odd,
        "sparse": good + sparse + member("s.txt", b"a dog"),
        "links": good + linked + member("l.txt", b"x") + hard + member("h.txt", b"x"),
        "absolute": good + pair("/etc/x") + pair("../../x") + pair("a/../../b"),
        "device": good + member("d.png", type=tarfile.CHRTYPE) + member("d.txt", b"x"),
        "names": good + pair("a\u2028b") + pair("\udcff") + pair("n" * 90) + pair("e\x1b[2J"),
        "twice": good + pair("x") + pair("x") + pair("."),
        "notext": good + member("a.png", png) + member("a.txt", b"\xff\xfe\0"),
        "bomb": good + member("a.png", png_bomb()) + member("a.txt", b"a bomb"),
        "empty": b"",
        "zeros": bytes(10240),
        "gzipped": gzip.compress(good + end),
        "pax": good
        + member("p", b"30 size=99999999999999999999\n", type=tarfile.XHDTYPE)
        + pair("z"),
    }
    return {
        f"tar_{name}": stored(folder / f"{name}.tar", data + end) for name, data in contents.items()
    }


def png_bomb(side=60000):
    """A few hundred bytes that declare side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        check = struct.pack(">I", zlib.crc32(name + body))
        data += struct.pack(">I", len(body)) + name + body + check
    return data


def stored(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
