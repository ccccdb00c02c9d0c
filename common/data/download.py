"""Fetch one file over HTTP: continued where it broke off, checked, and whole or not there at all.

Beside ``scene.zip`` lie, while it is fetched, ``scene.zip.part`` and ``scene.zip.part.json`` (from
where, which version), and afterwards ``scene.zip.sha256``, as ``sha256sum --check`` reads it.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from common.errors import UserError, naming
from common.progress import BYTE, ProgressLine, size_text

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before another try, while none brings anything new
MAY_PASS = {408, 425, 429, 500, 502, 503, 504}
REDIRECTS = {301, 302, 303, 307, 308}
AGENT = "dvr-idr download_data.py"  # some servers refuse Python's own name


class _MayPass(Exception):
    """A failure that another try may not meet."""


@dataclass(frozen=True)
class _Origin:
    """Where the bytes of a ``.part`` file came from."""

    url: str
    version: str | None  # strong ETag or Last-Modified; without either it cannot be continued
    size: int | None  # of the whole file, where the server told


def download(
    url: str,
    path: Path,
    checksum: str | None = None,
    copies: int = 1,
    timeout: float = TIMEOUT,
    waits: Sequence[float] = WAITS,
) -> str:
    """Fetch ``url`` to ``path`` unless it is there, check it, and return its SHA-256.

    ``checksum`` is "algorithm:hex" where one was published; what is got the first time is checked
    against whenever the file is met again. There must be room on the disk for ``copies`` of the
    file. ``waits`` are the pauses, in seconds, before further tries after a failure that may
    pass (RFC 9110: Range, If-Range); they begin anew with every byte gained. Raises UserError where
    the file cannot be had; what was got of it is kept, and the same call continues.
    """
    _check_url(url)
    if path.exists():
        return _check_again(path, checksum)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path, ".part")
    _fetch(url, part, copies, timeout, waits)
    try:
        digest = _check(part, checksum)
    except UserError:
        _discard(part)
        raise
    _beside(path, ".sha256").write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    part.rename(path)
    _discard(part)
    return digest


def forget(path: Path) -> None:
    """Remove a downloaded file and its SHA-256."""
    path.unlink()
    _beside(path, ".sha256").unlink(missing_ok=True)


def _fetch(url: str, part: Path, copies: int, timeout: float, waits: Sequence[float]) -> None:
    """Fill ``part``, however many tries it takes while they bring it further."""
    farthest = _size(part)
    pauses = iter(waits)
    while True:
        try:
            _fetch_rest(url, part, copies, timeout)
            return
        except _MayPass as failure:
            if _size(part) > farthest:
                farthest, pauses = _size(part), iter(waits)
            pause = next(pauses, None)
            if pause is None:
                raise UserError(
                    f"{url}: {failure}; check the network and run the same command again: "
                    f"{size_text(_size(part))} are kept and it continues from there"
                ) from failure
            print(f"{url}: {failure}; trying again", file=sys.stderr)
        time.sleep(pause)


def _fetch_rest(url: str, part: Path, copies: int, timeout: float) -> None:
    """One request for what ``part`` lacks; _MayPass where it ends early."""
    origin = _read_origin(part)
    have = _size(part)
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if origin is None or origin.version is None:
        have = 0  # nothing tells whether the server still has the same file
    elif origin.url != url and have:
        raise UserError(
            f"{part}: was begun from {origin.url}; continue from there, or remove it to begin anew"
        )
    elif have == origin.size:
        return
    elif have:
        headers |= {"Range": f"bytes={have}-", "If-Range": origin.version}
    with _open(url, headers, part, timeout) as response:
        start, total = _extent(response, url)
        if start not in (0, have):
            _discard(part)
            raise _MayPass(f"the server sent bytes from {start} where {have} were asked for")
        if have and start == 0:
            print(f"{url}: the server begins anew (its file changed, or it cannot continue)")
        _check_room(part, start, total, copies)
        with part.open("ab" if start else "wb") as file:
            _write_origin(part, _Origin(url, _version(response), total))
            with ProgressLine(part.stem, BYTE, total, start) as line:
                for chunk in _chunks(response):
                    file.write(chunk)
                    line.advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _size(part) != total:
        raise _MayPass(f"the connection ended after {_size(part)} of {total} bytes")


def _extent(response: http.client.HTTPResponse, url: str) -> tuple[int, int | None]:
    """The first byte that the answer holds, and the size of the whole file."""
    if response.headers.get_content_type() == "text/html":
        raise UserError(
            f"{url}: the server sent a web page instead of a file; open it in a browser to see why "
            "(a login, a quota, a moved file), or name a --mirror"
        )
    if response.status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    content = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", content.strip())
    if response.status != 206 or match is None:
        raise UserError(
            f"{url}: answered {response.status} with Content-Range {content!r}; "
            "not a file that can be fetched: check the address"
        )
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _version(response: http.client.HTTPResponse) -> str | None:
    """What If-Range compares: a weak ETag does not promise the same bytes."""
    tag = response.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return str(tag)
    return response.headers.get("Last-Modified")


def _check_room(part: Path, start: int, total: int | None, copies: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and copies * total - start > free:
        also = " and as much again, at least, to unpack it" if copies > 1 else ""
        raise UserError(
            f"{part.parent}: the file takes {size_text(total)}{also}, but {size_text(free)} are "
            "free on this disk; free some, or name a folder on another disk"
        )


@contextmanager
def _open(
    url: str, headers: dict[str, str], part: Path, timeout: float
) -> Iterator[http.client.HTTPResponse]:
    """The server's answer; UserError where the server refuses, _MayPass where it may not again."""
    try:
        with naming(url), _may_pass():
            response = _opener().open(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        answer = f"{error.code} {http.client.responses.get(error.code, '')}".strip()
        if error.code == 416:  # there is less than we have: another file
            _discard(part)
            raise _MayPass("the server's file became shorter") from error
        if error.code in MAY_PASS:
            raise _MayPass(f"the server answered {answer}") from error
        if error.code in REDIRECTS:
            raise UserError(
                f"{url}: the server sends on in a circle, or off the web; not followed"
            ) from error
        raise UserError(
            f"{url}: the server answered {answer}; check the address in a browser, or name a "
            "--mirror"
        ) from error
    with response:
        yield response


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        with _may_pass():
            chunk = response.read1(CHUNK)  # what is there: nothing of it is lost if no more comes
        if not chunk:
            return
        yield chunk


@contextmanager
def _may_pass() -> Iterator[None]:
    """Turn the network's failures into _MayPass, but an untrusted certificate into UserError."""
    try:
        yield
    except HTTPError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise UserError(
                f"the server's certificate is not trusted ({cause.verify_message}); check this "
                "computer's date and certificates, and who stands between it and the server"
            ) from error
        raise _MayPass(f"the connection failed ({str(cause) or type(cause).__name__})") from error


class _WebRedirects(HTTPRedirectHandler):
    """Follow redirects to the web alone, and never from an encrypted address to a plain one."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise UserError(
                f"{req.full_url}: sends on to {newurl}, which is not safe; not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@cache
def _opener() -> OpenerDirector:
    """Only HTTP and HTTPS, through the system's proxy, with certificates verified."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(context=ssl.create_default_context()),
        _WebRedirects(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or re.search(r"[^!-~]", url):
        raise UserError(
            f"{url!r}: not an address to download from; expected http:// or https://, a host and "
            "a path, with special characters written as %XX, and no password"
        )


def _check(path: Path, checksum: str | None) -> str:
    """The file's SHA-256; UserError where it is not the file that was published."""
    algorithm, _, expected = (checksum or "").partition(":")
    sha256 = hashlib.sha256()
    published = hashlib.new(algorithm, usedforsecurity=False) if checksum else sha256
    with path.open("rb") as file, ProgressLine("checking", BYTE, path.stat().st_size) as line:
        while chunk := file.read(CHUNK):
            sha256.update(chunk)
            if published is not sha256:
                published.update(chunk)
            line.advance(len(chunk))
    if checksum and published.hexdigest() != expected.lower():
        raise UserError(
            f"{path}: its {algorithm} is {published.hexdigest()} where {expected} was published: "
            "damaged on the way, or changed by its authors; download it again, or from a --mirror"
        )
    return sha256.hexdigest()


def _check_again(path: Path, checksum: str | None) -> str:
    """The SHA-256 of a file that was there before; UserError where it has changed since."""
    digest = _check(path, checksum)
    record = _beside(path, ".sha256")
    known = record.read_text(encoding="utf-8", errors="replace").split() if record.exists() else []
    if known and known[0] != digest:
        raise UserError(
            f"{path}: its SHA-256 is {digest}, but was {known[0]} when it was downloaded; it has "
            "been damaged: remove it and download it again"
        )
    return digest


def _read_origin(part: Path) -> _Origin | None:
    """What is known of a ``.part`` file; None where that cannot be read, so that it begins anew."""
    try:
        content = json.loads(_beside(part, ".json").read_text(encoding="utf-8"))
        url, version, size = (content[field.name] for field in fields(_Origin))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    good = isinstance(url, str) and isinstance(size, int | None)
    good = good and (version is None or (isinstance(version, str) and version.isprintable()))
    return _Origin(url, version, size) if good else None


def _write_origin(part: Path, origin: _Origin) -> None:
    _beside(part, ".json").write_text(json.dumps(asdict(origin)), encoding="utf-8")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _beside(part, ".json").unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
