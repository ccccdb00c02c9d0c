"""Unpack an archive that nobody vouches for: nothing leaves its folder, nothing fills the disk.

Only plain files and folders are written, each as a new one. Links are refused altogether: data sets
need none, and without them no member can lead another out of the folder.
"""

import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

from common.errors import UserError, naming
from common.progress import BYTE, ProgressLine, size_text

CHUNK = 1 << 20
RATIO = 100  # how many times its size an honest archive unpacks to,
ROOM_OF_ANY = 16 << 20  # if not to fewer bytes than this
MEMBER = 512  # bytes that a member counts beside its content
FOLDER = 4096  # bytes that a folder takes on a disk
LONGEST_NAME = 1024
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of the others, some unpack without bound
UTF8_NAME, ENCRYPTED = 0x800, 0x1  # flag bits of a zip's member (APPNOTE.TXT, 4.4.4)
FINDER = "__MACOSX"  # macOS puts its own notes about each file here
COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, OSError,
    EOFError, ValueError, OverflowError, IndexError, RecursionError, NotImplementedError,
)  # fmt: skip

# A member's path inside, its size, and its bytes; None for a folder.
Member = tuple[str, int, Iterator[bytes] | None]


def unpack(archive: Path, out: Path) -> None:
    """Unpack a zip or tar (.gz, .bz2, .xz) as the new folder ``out``, all of it or nothing.

    Where all lies in one folder of the archive, ``out`` is that folder. Raises UserError where
    ``out`` holds anything, where the archive is damaged, encrypted, or neither zip nor tar, where
    it would unpack to more than the disk or belief holds, or where a member has a name
    that leads elsewhere, is not UTF-8 or comes twice, or is neither file nor folder.
    """
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists; remove it, or name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(out.name + ".unpacking")
    try:
        folder.mkdir()
    except FileExistsError as error:
        raise UserError(
            f"{folder}: exists, left by an unpacking that was killed or is still going on; "
            "wait for it, or remove the folder, and run the same command again"
        ) from error
    try:
        with naming(archive):
            _unpack_into(archive, folder)
            content = _content(folder)
        content.rename(out)
    finally:
        if folder.exists():
            shutil.rmtree(folder)


def _unpack_into(archive: Path, folder: Path) -> None:
    with archive.open("rb") as file:
        start = file.read(6)
    is_zip = start.startswith(b"PK")
    room = _Room(archive, folder)
    total = None
    if is_zip:
        with _reading():
            total, count = _declared(archive)
        room.check(total + MEMBER * count)
    members = _zip_members(archive) if is_zip else _tar_members(archive, start)
    with ProgressLine("unpacking", BYTE, total) as line:
        for name, size, chunks in members:
            room.take(size + MEMBER)
            if name.split("/")[0] != FINDER:
                _write(folder, name, chunks, room, line.advance)


def _write(
    folder: Path,
    name: str,
    chunks: Iterator[bytes] | None,
    room: "_Room",
    advance: Callable[[int], None],
) -> None:
    """One new file, or a folder if it is not there; the disk itself tells what comes twice."""
    target = folder / name
    parent = target if chunks is None else target.parent
    try:
        if not parent.is_dir():
            room.take(FOLDER * (name.count("/") + (chunks is None)))
            parent.mkdir(parents=True)
        if chunks is None:
            return
        with target.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
                advance(len(chunk))
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(
            f"{name!r} comes twice in it, perhaps once as a folder or in other case; not unpacked"
        ) from error


def _content(folder: Path) -> Path:
    """The only folder inside, else the whole."""
    entries = list(folder.iterdir())
    if not entries:
        raise UserError("holds no files; it is not the archive that was meant")
    alone = len(entries) == 1 and entries[0].is_dir()
    return entries[0] if alone else folder


class _Room:
    """How many bytes may be unpacked: what the disk holds, and what an honest archive holds."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.free = shutil.disk_usage(folder).free
        self.believed = max(RATIO * archive.stat().st_size, ROOM_OF_ANY)
        self.taken = 0

    def take(self, size: int) -> None:
        """Count bytes about to be written; UserError where they are too many."""
        self.taken += size
        self.check(self.taken)

    def check(self, total: int) -> None:
        """UserError where so many bytes are too many."""
        if total > self.believed:
            raise UserError(
                f"would unpack to {size_text(total)} or more, over {RATIO} times its own size; "
                "it is made to fill the disk (a zip bomb), and is not unpacked"
            )
        if total > self.free:
            raise UserError(
                f"takes {size_text(total)} or more unpacked, but {size_text(self.free)} are free "
                "on this disk; free some, or name a folder on another disk"
            )


def _declared(archive: Path) -> tuple[int, int]:
    """How many bytes a zip says its members have, and how many members."""
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        return sum(info.file_size for info in members), len(members)


def _zip_members(archive: Path) -> Iterator[Member]:
    with _reading(), zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            name = _inside(_zip_name(info))
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was not made on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _special(name, kind == stat.S_IFLNK)
            if info.is_dir():
                yield name, 0, None
                continue
            if info.flag_bits & ENCRYPTED:
                raise UserError(f"{name!r} is encrypted; unpack it by hand with its password")
            if info.compress_type not in METHODS:
                raise UserError(
                    f"{name!r} is compressed by method {info.compress_type}, expected none or "
                    "deflate; unpack it by hand"
                )
            with file.open(info) as stream:
                yield name, info.file_size, _chunks(cast(BufferedIOBase, stream))


def _zip_name(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & UTF8_NAME or info.filename.isascii():
        return info.filename
    try:
        # zipfile takes what is not marked as UTF-8 for DOS's code page; most of it is UTF-8.
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError as error:
        raise _not_utf8(info.filename) from error


def _tar_members(archive: Path, start: bytes) -> Iterator[Member]:
    opener = next((o for magic, o in COMPRESSED.items() if start.startswith(magic)), open)
    with _reading(), opener(archive, "rb") as stream:
        bounded = _Bounded(stream)
        file = _open_tar(bounded)
        with file:
            while (info := file.next()) is not None:
                # It keeps all it has read, and there can be millions.
                file.members.clear()
                name = _inside(info.name)
                if not (info.isdir() or info.isreg()):
                    raise _special(name, info.issym() or info.islnk())
                if info.size < 0:
                    raise tarfile.ReadError(f"{name!r} has a size below zero")
                content = None if info.isdir() else file.extractfile(info)
                yield name, info.size, None if content is None else _chunks(content)
            # A header that makes no sense ends the reading without a word; the end is a zero block.
            if bounded.last != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end mark where its members end")


def _open_tar(stream: "_Bounded") -> Any:
    try:
        return tarfile.open(fileobj=cast(Any, stream), mode="r:", encoding="utf-8")
    except tarfile.ReadError as error:
        raise UserError(
            f"neither a zip nor a tar archive, or damaged at its start ({error}); remove it and "
            "download it again"
        ) from error


class _Bounded:
    """A stream read in pieces no larger than a chunk, so that no header can fill the memory."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read
        self.last = b""  # what was read last

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes."""
        if not 0 <= size <= CHUNK:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._read(size)
        return self.last


def _chunks(stream: BufferedIOBase) -> Iterator[bytes]:
    with _reading():
        while chunk := stream.read(CHUNK):
            yield chunk


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever a damaged archive makes its reader stumble over into UserError."""
    try:
        yield
    except DAMAGE as error:
        raise UserError(
            f"damaged or cut short ({str(error) or type(error).__name__}); remove it and download "
            "it again"
        ) from error


def _inside(name: str) -> str:
    """The name as a path below the folder; UserError where it leads elsewhere."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _not_utf8(name) from error
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or re.search(r"^[A-Za-z]:|\\", name):
        raise UserError(f"{name[:LONGEST_NAME]!r} leads out of its folder; not unpacked")
    if len(name) > LONGEST_NAME or re.search(r"[\x00-\x1f]", name):
        raise UserError(f"{name[:80]!r} is no name of a file; not unpacked")
    return "/".join(parts)


def _special(name: str, is_link: bool) -> UserError:
    kind = "a link" if is_link else "a device or the like"
    return UserError(f"{name!r} is {kind}, expected files and folders; not unpacked")


def _not_utf8(name: str) -> UserError:
    return UserError(
        f"{name[:80]!r}: a name that is not UTF-8; unpack it by hand, and rename the file"
    )
