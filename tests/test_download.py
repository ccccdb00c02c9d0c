"""Downloads from a server of our own that breaks off, lies, changes its mind and stalls."""

import hashlib
import io
import json
import os
import random
import runpy
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
import zipfile
from collections import namedtuple
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.config import apply_overrides, load_yaml, validate
from common.data import download as download_module
from common.data.download import download, forget
from common.errors import UserError
from dvr.config import DVRConfig
from idr.config import IDRConfig
from tests.make_run import ROOT, run_script

AT_ONCE = (0.0, 0.0, 0.0)  # pauses before further tries
CONTENT = random.Random(0).randbytes(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
Usage = namedtuple("Usage", "total used free")


@dataclass
class Site:
    """What the server does; the lists are used up, one entry a request."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    length: bool = True  # else the body is sent in pieces of a size told with each
    kind: str = "application/zip"
    cuts: list[int | None] = field(default_factory=list)  # bytes of the body before it breaks off
    statuses: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    content_range: str | None = None  # instead of the true one
    stall: threading.Event | None = None  # waited for before the body
    seen: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    sent: int = 0


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        site, wanted = self.site, self.headers.get("Range")
        site.seen.append((self.path, wanted, self.headers.get("If-Range")))
        content = site.files.get(self.path.partition("?")[0])
        if site.statuses:
            return self.refuse(site.statuses.pop(0))
        if self.path in site.redirects:
            return self.refuse(302, {"Location": site.redirects[self.path]})
        if content is None:
            return self.refuse(404)
        version = site.etag or site.modified
        start = 0
        if wanted and site.ranges and self.headers.get("If-Range") == version:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self.refuse(416, {"Content-Range": f"bytes */{len(content)}"})
        headers = {"Content-Type": site.kind, "ETag": site.etag, "Last-Modified": site.modified}
        if start:
            true = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers["Content-Range"] = site.content_range or true
        body = content[start:]
        headers |= (
            {"Content-Length": len(body)} if site.length else {"Transfer-Encoding": "chunked"}
        )
        self.begin(206 if start else 200, headers)
        self.send(body, site.cuts.pop(0) if site.cuts else None)

    def refuse(self, status, headers=()):
        self.begin(status, {"Content-Length": 0, **dict(headers)})

    def begin(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()

    def send(self, body, cut):
        body, whole = body[:cut], cut is None
        self.site.sent += len(body)
        if self.site.stall is not None:
            self.site.stall.wait()
            whole = False
        elif self.site.length:
            self.wfile.write(body)
        else:
            self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
            self.wfile.write(b"0\r\n\r\n" if whole else b"")
        self.close_connection = not whole


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


def serve(site: Site, context: ssl.SSLContext | None = None) -> Server:
    server = Server(("127.0.0.1", 0), type("Bound", (Answer,), {"site": site}))
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if context is None else "https"
    site.url = f"{scheme}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site():
    site = Site(files={"/set.zip": CONTENT})
    server = serve(site)
    yield site
    server.shutdown()
    server.server_close()


def fetch(site: Site, path: Path, **options) -> str:
    options = {"waits": AT_ONCE, "timeout": 10.0, **options}
    return download(f"{site.url}/set.zip", path, **options)


def refusal(site: Site, path: Path, **options) -> str:
    with pytest.raises(UserError) as refused:
        fetch(site, path, **options)
    assert "\n" not in str(refused.value)
    assert not path.exists()
    return str(refused.value)


def ranges(site: Site) -> list[str | None]:
    return [wanted for _, wanted, _ in site.seen]


def leave_part(site: Site, path: Path, size: int) -> None:
    """As after a connection that broke off and nobody tried again."""
    site.cuts = [size]
    refusal(site, path, waits=())
    site.seen.clear()
    site.sent = 0


def test_a_file_arrives_with_its_sum_and_nothing_else(site, tmp_path):
    path = tmp_path / "new" / "set.zip"
    assert fetch(site, path) == SHA256
    assert path.read_bytes() == CONTENT
    assert sorted(os.listdir(path.parent)) == ["set.zip", "set.zip.sha256"]
    assert (tmp_path / "new/set.zip.sha256").read_text() == f"{SHA256}  set.zip\n"
    assert fetch(site, path) == SHA256 and len(site.seen) == 1
    forget(path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("length", [True, False], ids=["length told", "in pieces"])
@pytest.mark.parametrize("version", ["etag", "modified"])
def test_whatever_breaks_off_is_continued_and_no_byte_is_sent_twice(
    site, tmp_path, version, length
):
    site.length = length
    if version == "modified":
        site.etag, site.modified = 'W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT"
    chance = random.Random(3)
    for case in range(5):
        site.cuts = [chance.randint(1, 9000) for _ in range(chance.randint(1, 6))]
        starts = [sum(site.cuts[: n + 1]) for n in range(len(site.cuts))]
        site.seen.clear()
        site.sent = 0
        # A proxy or server may compare the weak tag as it likes; only If-Range's value is ours.
        if version == "modified":
            site.etag = None
        assert fetch(site, tmp_path / f"{case}.zip") == SHA256
        assert ranges(site) == [None, *(f"bytes={start}-" for start in starts)]
        assert {told for _, _, told in site.seen[1:]} == {site.etag or site.modified}
        assert site.sent == len(CONTENT)


def test_a_later_call_continues(site, tmp_path):
    path = tmp_path / "set.zip"
    leave_part(site, path, 20_000)
    assert (tmp_path / "set.zip.part").read_bytes() == CONTENT[:20_000]
    assert fetch(site, path) == SHA256
    assert ranges(site) == ["bytes=20000-"] and site.sent == 30_000


def test_a_whole_part_needs_no_request(site, tmp_path):
    path = tmp_path / "set.zip"
    leave_part(site, path, 20_000)
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    assert fetch(site, path) == SHA256
    assert site.seen == []


def change(site):
    site.etag, site.files["/set.zip"] = '"two"', CONTENT[::-1]


def shorten(site):
    site.files["/set.zip"] = CONTENT[:10_000]


@pytest.mark.parametrize("happens", [change, shorten])
def test_a_file_that_changed_is_begun_anew(site, tmp_path, happens):
    path = tmp_path / "set.zip"
    leave_part(site, path, 20_000)
    happens(site)
    fetch(site, path)
    assert path.read_bytes() == site.files["/set.zip"]


@pytest.mark.parametrize("why", ["no ranges", "no version", "weak version"])
def test_what_cannot_be_continued_is_begun_anew(site, tmp_path, why):
    if why == "no ranges":
        site.ranges = False
    else:
        site.etag = None if why == "no version" else 'W/"one"'
    leave_part(site, tmp_path / "set.zip", 20_000)
    assert fetch(site, tmp_path / "set.zip") == SHA256
    assert site.sent == len(CONTENT)
    assert ranges(site) == ["bytes=20000-" if why == "no ranges" else None]


def test_tries_end_where_none_brings_anything_new(site, tmp_path):
    """Else a server without ranges that always breaks off would be asked for ever."""
    site.ranges = False
    site.cuts = [1000] * 100
    said = refusal(site, tmp_path / "set.zip")
    assert "ended after 1000 of 50000 bytes" in said and "run the same command again" in said
    assert len(site.seen) == 1 + len(AT_ONCE)


def test_every_gain_renews_the_tries(site, tmp_path):
    site.cuts = [1000] * 20
    assert fetch(site, tmp_path / "set.zip", waits=(0.0,)) == SHA256
    assert len(site.seen) == 21


@pytest.mark.parametrize("length", [True, False], ids=["length told", "in pieces"])
def test_a_cut_body_is_noticed(site, tmp_path, length):
    site.length, site.cuts = length, [len(CONTENT) - 1]
    said = refusal(site, tmp_path / "set.zip", waits=())
    assert "ended after 49999" in said if length else "connection failed" in said


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_failures_that_may_pass_are_tried_again(site, tmp_path, status):
    site.statuses = [status, status]
    assert fetch(site, tmp_path / "set.zip") == SHA256
    site.statuses = [status] * 4
    assert f"answered {status}" in refusal(site, tmp_path / "other.zip")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 304])
def test_refusals_are_not_tried_again(site, tmp_path, status):
    site.statuses = [status]
    said = refusal(site, tmp_path / "set.zip")
    assert f"answered {status}" in said and site.url in said
    assert len(site.seen) == 1


@pytest.mark.parametrize(
    "content_range",
    ["bytes 7-49999/50000", "bytes 20001-49999/50000"],
)
def test_bytes_of_another_place_are_not_joined(site, tmp_path, content_range):
    path = tmp_path / "set.zip"
    leave_part(site, path, 20_000)
    site.content_range = content_range
    assert fetch(site, path) == SHA256
    assert ranges(site) == ["bytes=20000-", None]


@pytest.mark.parametrize(
    "content_range", ["", "bytes -1-2/3", "bytes 1-2/99999999999999999999", "x"]
)
def test_an_unreadable_range_is_refused(site, tmp_path, content_range):
    path = tmp_path / "set.zip"
    leave_part(site, path, 20_000)
    site.content_range = content_range or " "
    assert "not a file that can be fetched" in refusal(site, path)


def test_a_total_that_cannot_be_is_found_out(site, tmp_path):
    path = tmp_path / "set.zip"
    leave_part(site, path, 20_000)
    site.content_range = "bytes 20000-59999/60000"
    assert fetch(site, path) == SHA256
    assert ranges(site) == ["bytes=20000-", "bytes=50000-", None]


@pytest.mark.parametrize(
    "record",
    [
        "", "{", "[]", "null", '{"url": 1}', '{"url": "x", "version": 5, "size": 1}',
        '{"url": "x", "version": "\\r\\nHost: evil", "size": 1}',
        '{"url": "x", "version": "v", "size": "1"}', '{"url": null, "version": "v", "size": 1}',
        "\udcff",
    ],
)  # fmt: skip
def test_a_damaged_record_begins_anew(site, tmp_path, record):
    path = tmp_path / "set.zip"
    leave_part(site, path, 20_000)
    (tmp_path / "set.zip.part.json").write_text(record, errors="surrogateescape")
    assert fetch(site, path) == SHA256
    assert ranges(site) == [None]


def test_another_address_does_not_continue_what_was_begun(site, tmp_path):
    path = tmp_path / "set.zip"
    leave_part(site, path, 20_000)
    with pytest.raises(UserError, match=f"was begun from {site.url}/set.zip; continue from there"):
        download("http://127.0.0.1:9/set.zip", path, waits=())
    assert (tmp_path / "set.zip.part").stat().st_size == 20_000


def test_redirects_are_followed_with_the_range(site, tmp_path):
    site.redirects = {"/set.zip": "/moved.zip", "/moved.zip": f"{site.url}/there.zip?dl=1"}
    site.files["/there.zip"] = CONTENT
    leave_part(site, tmp_path / "set.zip", 20_000)
    assert fetch(site, tmp_path / "set.zip") == SHA256
    assert site.seen[-1] == ("/there.zip?dl=1", "bytes=20000-", '"one"')


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "gopher://x/"]
)
def test_redirects_off_the_web_are_not_followed(site, tmp_path, target):
    site.redirects = {"/set.zip": target}
    said = refusal(site, tmp_path / "set.zip")
    assert "not safe; not followed" in said or "off the web; not followed" in said
    assert len(site.seen) == 1


def test_redirects_in_a_circle_end(site, tmp_path):
    site.redirects = {"/set.zip": "/other", "/other": "/set.zip"}
    assert "in a circle" in refusal(site, tmp_path / "set.zip")


def test_a_web_page_is_no_archive(site, tmp_path):
    site.kind = "text/html; charset=utf-8"
    assert "a web page instead of a file" in refusal(site, tmp_path / "set.zip")
    assert os.listdir(tmp_path) == []


def test_a_stalled_server_is_given_up(site, tmp_path):
    site.stall = threading.Event()
    try:
        assert "timed out" in refusal(site, tmp_path / "set.zip", timeout=0.05, waits=(0.0,))
    finally:
        site.stall.set()


def test_nobody_there(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and not listening
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/set.zip"
        with pytest.raises(UserError, match="refused.*check the network"):
            download(url, tmp_path / "set.zip", waits=AT_ONCE)


def test_the_disk_must_hold_the_file_and_its_copies(site, tmp_path, monkeypatch):
    path = tmp_path / "set.zip"
    leave_part(site, path, 20_000)

    def free(size):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(size, 0, size))

    free(29_999)
    said = refusal(site, path)
    assert "50.0kB" in said and "30.0kB are free" in said and "unpack" not in said
    free(79_999)
    assert "as much again" in refusal(site, path, copies=2)
    assert (tmp_path / "set.zip.part").stat().st_size == 20_000
    free(80_000)
    assert fetch(site, path, copies=2) == SHA256


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_published_checksum_decides(site, tmp_path, algorithm):
    good = hashlib.new(algorithm, CONTENT).hexdigest()
    assert fetch(site, tmp_path / "a.zip", checksum=f"{algorithm}:{good.upper()}") == SHA256
    wrong = f"{algorithm}:{good[:-1]}{'0' if good[-1] != '0' else '1'}"
    said = refusal(site, tmp_path / "b.zip", checksum=wrong)
    assert good in said and wrong.partition(":")[2] in said
    assert not list(tmp_path.glob("b.zip*"))
    with pytest.raises(UserError, match=algorithm):
        fetch(site, tmp_path / "a.zip", checksum=wrong)


def test_without_one_the_first_sum_is_remembered(site, tmp_path):
    path = tmp_path / "set.zip"
    fetch(site, path)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=f"but was {SHA256} when it was downloaded"):
        fetch(site, path)
    assert path.read_bytes() == CONTENT[:-1]


@pytest.mark.parametrize(
    "url",
    [
        "", "set.zip", "file:///etc/passwd", "ftp://x/y", "http://", "http:///x", "https://x:99999/",
        "http://x:y/", "http://a b/", "http://x/\n", "http://x/ü", "http://me:secret@x/", "http://[x/",
    ],
)  # fmt: skip
def test_what_is_no_address(tmp_path, url):
    with pytest.raises(UserError, match="not an address to download from"):
        download(url, tmp_path / "set.zip", waits=())
    assert os.listdir(tmp_path) == []


def test_a_full_disk_keeps_its_own_sentence(site, tmp_path, monkeypatch):
    """It is no failure of the network, and not tried again."""
    monkeypatch.setattr(os, "fsync", lambda number: os.close(-1))
    with pytest.raises(OSError, match="Bad file descriptor"):
        fetch(site, tmp_path / "set.zip")
    assert len(site.seen) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """Of 127.0.0.1, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        f"-subj /CN=test -addext subjectAltName=IP:127.0.0.1 -keyout {path}.key -out {path}.crt",
        shell=True, check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(Path(f"{path}.key").read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture
def secure_site(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    site = Site(files={"/set.zip": CONTENT})
    server = serve(site, context)
    yield site
    server.shutdown()
    server.server_close()


def test_an_untrusted_certificate_is_refused(secure_site, tmp_path):
    said = refusal(secure_site, tmp_path / "set.zip")
    assert "certificate is not trusted (self" in said and secure_site.url in said
    assert secure_site.seen == []


def test_no_redirect_leads_out_of_encryption(site, secure_site, certificate, tmp_path, monkeypatch):
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    monkeypatch.setattr(download_module, "_opener", download_module._opener.__wrapped__)
    assert fetch(secure_site, tmp_path / "set.zip") == SHA256
    site.redirects = {"/set.zip": f"{secure_site.url}/set.zip"}
    assert fetch(site, tmp_path / "up.zip") == SHA256
    secure_site.redirects, site.redirects = {"/set.zip": f"{site.url}/set.zip"}, {}
    assert "not safe" in refusal(secure_site, tmp_path / "down.zip")
    assert len(site.seen) == 1


def test_progress_in_a_log(site, tmp_path, capsys):
    site.files["/set.zip"] = bytes(4 << 20)
    fetch(site, tmp_path / "set.zip")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "set.zip: 4.19MB of 4.19MB (100%)", "checking: 4.19MB of 4.19MB (100%)",
    ]  # fmt: skip


DATA_SETS = runpy.run_path(str(ROOT / "scripts/download_data.py"), run_name="table")["DATA_SETS"]


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return file.getvalue()


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_next_command_is_one_that_works(name):
    wanted = DATA_SETS[name]
    assert wanted.url.startswith("https://")
    assert wanted.url in (ROOT / "docs/data.md").read_text(encoding="utf-8")
    python, script, config, *overrides = shlex.split(wanted.then.format(out=wanted.out))
    assert python == "python"
    if script == "scripts/train.py":
        content = apply_overrides(load_yaml(ROOT / config), overrides)
        schema = IDRConfig if content["method"] == "idr" else DVRConfig
        path = validate(schema, content, config).data.path
        assert str(path).startswith(wanted.out)
    else:
        assert script == "scripts/prepare_scene.py" and config.startswith(wanted.out)


def test_archives_of_data_sets_do_not_meet():
    assert len({wanted.out for wanted in DATA_SETS.values()}) == len(DATA_SETS)


def test_list_names_all():
    outcome = run_script("download_data", "--list")
    assert outcome.code == 0
    for name, wanted in DATA_SETS.items():
        assert name in outcome.out and wanted.url in outcome.out and wanted.size in outcome.out


@pytest.fixture
def lego(site):
    holds = "nerf_example_data/" + DATA_SETS["nerf_synthetic"].holds
    site.files["/data/nerf_example_data.zip"] = zipped(holds, "__MACOSX/x")
    return site


@pytest.mark.parametrize("keep", [True, False])
def test_from_archive_to_the_next_command(lego, tmp_path, keep):
    out = tmp_path / "a b" / "examples"
    words = ["nerf_synthetic", out, "--mirror", f"{lego.url}/data/", *["--keep-archive"][:keep]]
    outcome = run_script("download_data", *words)
    assert outcome.code == 0, outcome.err
    assert (out / "nerf_synthetic/lego/transforms_train.json").is_file()
    archive = out.with_name("examples.zip")
    assert archive.exists() == keep
    content = lego.files["/data/nerf_example_data.zip"]
    assert f"SHA-256 {hashlib.sha256(content).hexdigest()}" in outcome.out
    *_, last = outcome.out.splitlines()
    command = shlex.split(last.removeprefix("next: "))
    assert command[-1] == f"data.path={out}/nerf_synthetic/lego"
    again = run_script("download_data", *words)
    assert again.code == 0 and "was there already" in again.out and again.out.endswith(last + "\n")
    assert len(lego.seen) == 1


def test_a_kept_archive_is_used_again(lego, tmp_path):
    words = ["nerf_synthetic", tmp_path / "out", "--mirror", f"{lego.url}/data", "--keep-archive"]
    run_script("download_data", *words)
    shutil.rmtree(tmp_path / "out")
    assert run_script("download_data", *words).code == 0
    assert len(lego.seen) == 1
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out.zip").write_bytes(zipped("other"))
    outcome = run_script("download_data", *words)
    assert outcome.code == 2 and "has been damaged" in outcome.err


def check_refused(outcome, *said: str) -> None:
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("error: ") == 1 and "Traceback" not in outcome.err
    for words in said:
        assert words in outcome.err


def test_another_archive_than_was_meant(lego, tmp_path):
    lego.files["/data/nerf_example_data.zip"] = zipped("x/y")
    out = tmp_path / "out"
    outcome = run_script("download_data", "nerf_synthetic", out, "--mirror", f"{lego.url}/data")
    check_refused(outcome, "another archive than was meant")
    assert (tmp_path / "out.zip").exists()


def test_a_folder_of_the_users_stays(lego, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    outcome = run_script("download_data", "nerf_synthetic", tmp_path / "out", "--mirror", lego.url)
    check_refused(outcome, "remove it, or name another folder as OUT")
    assert lego.seen == [] and os.listdir(tmp_path) == ["out"]


def test_an_archive_that_is_not_the_published_one(site, tmp_path):
    site.files["/DTU.zip"] = zipped("DTU/scan65/cameras.npz")
    outcome = run_script("download_data", "dtu_idr", tmp_path / "DTU", "--mirror", site.url)
    check_refused(outcome, DATA_SETS["dtu_idr"].checksum.removeprefix("md5:"), "--mirror")
    assert os.listdir(tmp_path) == []


def test_misuse_of_the_command_line(tmp_path):
    for words in ([], ["lego"], ["temple", tmp_path / "x", "--mirror", "our.server"]):
        outcome = run_script("download_data", *words)
        assert outcome.code == 2 and "Traceback" not in outcome.err
    assert os.listdir(tmp_path) == []


def test_an_interrupted_download_says_how_to_go_on(lego, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(KeyboardInterrupt))
    words = ["nerf_synthetic", tmp_path / "out", "--mirror", f"{lego.url}/data"]
    outcome = run_script("download_data", *words)
    assert outcome.code == 3 and "the same command continues" in outcome.err
    record = json.loads((tmp_path / "out.zip.part.json").read_text())
    assert record["url"] == f"{lego.url}/data/nerf_example_data.zip"
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")
    assert run_script("download_data", *words).code == 0
