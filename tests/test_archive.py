"""Honest archives arrive whole; hostile and damaged ones leave nothing behind."""

import gzip
import io
import lzma
import os
import random
import shutil
import stat
import struct
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from common.data import archive as archive_module
from common.data.archive import unpack
from common.errors import UserError

Usage = namedtuple("Usage", "total used free")
NOISE = random.Random(0).randbytes(3000)
FILES = {
    "set/a.txt": b"first",
    "set/deep/er/b.bin": NOISE,
    "set/empty": b"",
    "set/späße 物.txt": b"named in UTF-8",
}
TARS = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def zip_of(path: Path, members: dict[str, bytes], method=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tar_member(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_of(path: Path, members, mode="w", **options) -> Path:
    """``members``: contents by name, or pairs of TarInfo and content."""
    if isinstance(members, dict):
        members = [tar_member(name, content) for name, content in members.items()]
    with tarfile.open(path, mode, **options) as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content))
    return path


def archive_of(folder: Path, kind: str, members: dict[str, bytes]) -> Path:
    path = folder / f"set.{kind}"
    return zip_of(path, members) if kind == "zip" else tar_of(path, members, TARS[kind])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(archive: Path, out: Path | None = None) -> str:
    """The one sentence with which it is refused, after which nothing else is there."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(UserError) as refused:
        unpack(archive, out or archive.parent / "out")
    assert sorted(archive.parent.rglob("*")) == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("kind", ["zip", *TARS])
def test_every_kind_arrives_whole(tmp_path, kind):
    archive = archive_of(tmp_path, kind, FILES)
    unpack(archive, tmp_path / "new" / "out")
    expected = {name.removeprefix("set/"): content for name, content in FILES.items()}
    assert contents(tmp_path / "new" / "out") == expected
    assert os.listdir(tmp_path / "new") == ["out"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a/x", "b/x"], ["a/x", "b/x"]),
        (["./a/x", "a//y"], ["x", "y"]),
        (["a"], ["a"]),
        (["a/x", "__MACOSX/a/._x"], ["x"]),
        (["a/b:c", "a/..d", "a/e..f"], ["b:c", "..d", "e..f"]),
    ],
)
def test_the_only_folder_is_the_data_set(tmp_path, kind, names, expected):
    unpack(archive_of(tmp_path, kind, dict.fromkeys(names, b"1")), tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == sorted(expected)


def test_folders_of_their_own_are_made(tmp_path):
    folders = [tar_member(f"{name}/", type=tarfile.DIRTYPE) for name in (".", "a", "a/b", "c")]
    unpack(tar_of(tmp_path / "set.tar", [*folders, tar_member("a/x", b"1")]), tmp_path / "out")
    assert (tmp_path / "out/a/b").is_dir() and (tmp_path / "out/c").is_dir()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.writestr("a/", "")
        file.writestr("a/b/", "")
    unpack(tmp_path / "set.zip", tmp_path / "out of zip")
    assert os.listdir(tmp_path / "out of zip") == ["b"]


def test_a_name_in_utf8_that_is_not_marked_as_such(tmp_path):
    """As Info-ZIP writes them."""
    path = zip_of(tmp_path / "set.zip", {"a/XX": b"1", "a/b": b"2"})
    path.write_bytes(path.read_bytes().replace(b"a/XX", "a/ü".encode()))
    unpack(path, tmp_path / "out")
    assert contents(tmp_path / "out") == {"ü": b"1", "b": b"2"}


def test_modes_and_owners_are_not_taken_over(tmp_path):
    members = [tar_member("a/x", b"1", mode=0o6777, uid=0), tar_member("a/y", b"2", mode=0)]
    unpack(tar_of(tmp_path / "set.tar", members), tmp_path / "out")
    (tmp_path / "plain").touch()
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    for name in ("x", "y"):
        assert stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) == usual


OUTSIDE = [
    "/etc/evil", "//evil", "../evil", "a/../../evil", "a/..", "..", "C:/evil", "c:evil",
    "a\\..\\..\\evil", "\\evil", "\\\\server\\evil",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_leads_outside(tmp_path, kind, name):
    (tmp_path / "in").mkdir()
    archive = archive_of(tmp_path / "in", kind, {"a/good": b"1", name: b"2"})
    said = refusal(archive)
    assert "leads out of its folder" in said and str(archive) in said
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("name", ["a/\nb", "a/\x07", "a/" + "x" * 2000, "a/" * 600 + "x"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_no_file_should_have(tmp_path, kind, name):
    assert "is no name of a file" in refusal(archive_of(tmp_path, kind, {name: b"1"}))


LINKS = [
    ("../../evil", tarfile.SYMTYPE), ("/etc/passwd", tarfile.SYMTYPE), ("x", tarfile.SYMTYPE),
    ("../../evil", tarfile.LNKTYPE), ("/etc/passwd", tarfile.LNKTYPE), ("a/x", tarfile.LNKTYPE),
]  # fmt: skip


@pytest.mark.parametrize(("target", "kind"), LINKS)
def test_links_are_refused_with_what_is_written_through_them(tmp_path, target, kind):
    members = [
        tar_member("a/x", b"1"),
        tar_member("a/link", type=kind, linkname=target),
        tar_member("a/link/y", b"2"),
    ]
    assert "'a/link' is a link" in refusal(tar_of(tmp_path / "set.tar", members))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path, kind):
    archive = tar_of(tmp_path / "set.tar", [tar_member("a/x", b"1"), tar_member("d", type=kind)])
    assert "'d' is a device or the like" in refusal(archive)


@pytest.mark.parametrize(
    ("kind", "said"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is a device or the like")]
)
def test_links_and_devices_of_a_zip_are_refused(tmp_path, kind, said):
    info = zipfile.ZipInfo("a/x")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.writestr(info, "../../evil")
    assert f"'a/x' {said}" in refusal(tmp_path / "set.zip")


@pytest.mark.parametrize(
    "names",
    [["a/x", "a/x"], ["a/x", "./a//x"], ["a/x", "a/x/y"], ["a/x/y", "a/x"], ["a/x", "a/x/"]],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_twice_is_refused(tmp_path, kind, names):
    path = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, "")
    else:
        kinds = [tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE for name in names]
        tar_of(path, [tar_member(n, type=t) for n, t in zip(names, kinds, strict=True)])
    assert "comes twice" in refusal(path)


def test_names_that_are_not_utf8_are_refused(tmp_path):
    archive = tar_of(tmp_path / "set.tar", {"a/\udcff": b"1"}, format=tarfile.GNU_FORMAT,
                     errors="surrogateescape")  # fmt: skip
    assert "not UTF-8" in refusal(archive)
    for marked in (False, True):
        path = zip_of(tmp_path / f"set{marked}.zip", {"a/ü" if marked else "a/XX": b"1"})
        path.write_bytes(path.read_bytes().replace("ü".encode() if marked else b"XX", b"\xff\xfe"))
        assert "not UTF-8" in refusal(path) or "can't decode" in refusal(path)


def test_encrypted_zips_are_refused(tmp_path):
    path = zip_of(tmp_path / "set.zip", {"a/x": b"1"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag bits in the central directory
    content[6] |= 1
    path.write_bytes(content)
    assert "'a/x' is encrypted" in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(tmp_path, method):
    path = zip_of(tmp_path / "set.zip", {"a/x": b"1" * 1000}, method)
    assert f"compressed by method {method}" in refusal(path)


def free(monkeypatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(size, 0, size))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_what_the_disk_cannot_hold_is_not_begun(tmp_path, monkeypatch, kind):
    archive = archive_of(tmp_path, kind, {"a/x": NOISE, "a/y": NOISE})
    free(monkeypatch, 2 * len(NOISE) - 1)
    assert "are free on this disk" in refusal(archive)
    free(monkeypatch, 2 * len(NOISE) + 2 * archive_module.MEMBER + archive_module.FOLDER)
    unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_bombs_are_refused(tmp_path, kind):
    size = archive_module.ROOM_OF_ANY + 1
    assert "zip bomb" in refusal(archive_of(tmp_path, kind, {"a/x": bytes(size)}))
    honest = archive_of(tmp_path, kind, {"a/x": bytes(size // 2)})
    unpack(honest, tmp_path / "out")
    assert (tmp_path / "out/x").stat().st_size == size // 2


def test_a_bomb_of_empty_files_and_one_of_folders_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "ROOM_OF_ANY", 1 << 16)
    many = {f"a/{number}": b"" for number in range(1000)}
    assert "zip bomb" in refusal(archive_of(tmp_path, "tar.xz", many))
    deep = {f"{number}/" + "a/" * 40 + "x": b"" for number in range(10)}
    assert "zip bomb" in refusal(archive_of(tmp_path, "tar.xz", deep))


def test_a_zip_that_lies_of_its_sizes_writes_no_more_than_it_says(tmp_path):
    path = zip_of(tmp_path / "set.zip", {"a/x": bytes(1 << 20)})
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(magic) + offset, 5)
    path.write_bytes(content)
    assert "damaged" in refusal(path)


def pax_header(size: int) -> bytes:
    """A header that announces that many bytes of further headers."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.USTAR_FORMAT)


EMPTY_FILE = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        # Read at once, as it would be, it fills the memory.
        (pax_header(1 << 32) + bytes(1 << 16), "a header of 4294967296 bytes"),
        (pax_header(100) * 2000, "damaged"),
        (EMPTY_FILE, "no end mark"),
        (EMPTY_FILE + NOISE, "no end mark"),
        (EMPTY_FILE + EMPTY_FILE[:300], "no end mark"),
        (EMPTY_FILE[:300], "damaged at its start"),
    ],
    ids=["huge", "of headers", "last", "before noise", "before half of one", "half of one"],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_hostile_headers_are_refused(tmp_path, content, names, compress):
    (tmp_path / "set.tar").write_bytes(compress(content))
    assert names in refusal(tmp_path / "set.tar")


def test_a_size_below_zero_is_refused(tmp_path):
    """It would set the reader back to the same header for ever."""
    info, _ = tar_member("a/x", b"")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (0x10000 - 512).to_bytes(2, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "set.tar").write_bytes(bytes(header) + bytes(1024))
    assert "damaged" in refusal(tmp_path / "set.tar")


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"hello", b"<html>quota</html>", NOISE, b"\x1f\x8b"]
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "set.zip").write_bytes(content)
    said = refusal(tmp_path / "set.zip")
    assert "neither a zip nor a tar" in said or "damaged" in said
    assert "download it again" in said


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_of_nothing_is_refused(tmp_path, kind):
    assert "no files" in refusal(archive_of(tmp_path, kind, {}))


@pytest.mark.parametrize("kind", ["zip", *TARS])
def test_a_cut_archive_gives_all_or_nothing(tmp_path, kind):
    whole = archive_of(tmp_path, kind, FILES).read_bytes()
    expected = {name.removeprefix("set/"): content for name, content in FILES.items()}
    cut = tmp_path / "cut"
    lengths = random.Random(1).sample(range(len(whole)), 25)
    refused = 0
    for length in [*lengths, len(whole) // 512 * 512 // 2]:
        cut.write_bytes(whole[:length])
        try:
            unpack(cut, tmp_path / "out")
        except UserError:
            refused += 1
            assert not (tmp_path / "out").exists()
        else:  # only padding or a checksum behind the last file is missing
            assert contents(tmp_path / "out") == expected
            shutil.rmtree(tmp_path / "out")
    assert refused >= (26 if kind == "zip" else 6)
    assert not (tmp_path / "out.unpacking").exists()


@pytest.mark.parametrize("kind", ["zip", *TARS])
def test_flipped_bytes_end_in_a_sentence_or_in_files_below(tmp_path, kind):
    whole = archive_of(tmp_path, kind, FILES).read_bytes()
    chance = random.Random(2)
    broken = tmp_path / "broken"
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            # Headers are what readers stumble over: the noise in the middle is only content.
            place = chance.choice(
                [chance.randrange(min(1600, len(whole))), -chance.randint(1, 400)]
            )
            content[place] = chance.randrange(256)
        broken.write_bytes(content)
        try:
            unpack(broken, tmp_path / "out")
        except UserError:
            refused += 1
        else:
            shutil.rmtree(tmp_path / "out")
        assert sorted(os.listdir(tmp_path)) == ["broken", f"set.{kind}"]
    assert refused > 8


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_nothing_that_exists_is_overwritten(tmp_path, there):
    archive, out = archive_of(tmp_path, "zip", FILES), tmp_path / "out"
    if there == "file":
        out.write_text("mine")
    elif there == "folder":
        out.mkdir()
        (out / "a.txt").write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    assert "exists; remove it" in refusal(archive)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    unpack(archive_of(tmp_path, "zip", FILES), tmp_path / "out")
    assert (tmp_path / "out/a.txt").read_bytes() == b"first"


def test_two_at_once_do_not_mix(tmp_path):
    (tmp_path / "out.unpacking").mkdir()
    archive = archive_of(tmp_path, "zip", FILES)
    assert "out.unpacking: exists" in refusal(archive)


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    archive = archive_of(tmp_path, "zip", FILES)
    write = archive_module._write

    def interrupted(folder, name, *rest):
        if name == "set/empty":
            raise KeyboardInterrupt
        write(folder, name, *rest)

    monkeypatch.setattr(archive_module, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["set.zip"]


def test_progress_in_a_log(tmp_path, capsys):
    members = {"a/x": bytes(4 << 20), "a/y": b"1", "a/z": b""}
    unpack(archive_of(tmp_path, "zip", members), tmp_path / "out")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unpacking: 4.19MB of 4.19MB (100%), ")
