"""Hosts that misbehave, each in its own way, over real connections: nothing hangs or grows, everything is noted."""

import asyncio
import gzip
import logging
import subprocess
import time

import pytest

from offline_jobs.image_download.stage import run_fetch_images


def one(server, path, answer, work, patient, make_work, fetch, **changes):
    """The ledger's row for one URL that the server answers so."""
    if answer is not None:
        server.answers[path] = answer
    return fetch(make_work(work, [server.url + path]), patient(server, **changes))[0]


@pytest.fixture
def ask(server, tmp_path, patient, make_work, fetch):
    def run(answer, **changes):
        return one(server, "/x", answer, tmp_path, patient, make_work, fetch, **changes)

    return run


def outcome(row):
    return row["state"], row["reason"], row["attempts"]


def test_a_body_that_drips_byte_by_byte(ask, http, picture):
    async def drip(server, writer, path):
        for byte in http(picture()):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    start = time.monotonic()
    assert outcome(ask(drip, attempts=2)) == ("failed", "timeout", 2)
    assert time.monotonic() - start < 5


def test_headers_that_never_end(ask):
    async def stall(server, writer, path):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        await writer.drain()
        await asyncio.sleep(30)

    assert outcome(ask(stall, attempts=2)) == ("failed", "timeout", 2)


def test_headers_without_end_in_number(ask):
    async def pour(server, writer, path):
        writer.write(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n")

    assert outcome(ask(pour)) == ("refused", "not valid HTTP", 1)


def test_a_body_without_end(ask, picture):
    sent = 0

    async def pour(server, writer, path):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + picture())
        while not writer.is_closing():
            writer.write(bytes(10_000))
            sent += 10_000
            await writer.drain()

    assert outcome(ask(pour)) == ("refused", "too many bytes", 1)
    assert sent < 50_000_000


@pytest.mark.parametrize(
    ("said", "reasons", "tries"),
    [
        (500, {"broken image", "not valid HTTP"}, 1),  # the latter where the rest came with it
        (90_000, {"body ended early"}, 3),
        (10**15, {"body ended early"}, 3),
    ],
)
def test_a_content_length_that_lies(ask, http, picture, said, reasons, tries):
    async def lie(server, writer, path):
        writer.write(http(picture(), length=said))
        await writer.drain()
        writer.close()

    row = ask(lie)
    assert row["reason"] in reasons
    assert (row["state"], row["attempts"]) == ("refused" if tries == 1 else "failed", tries)


def test_the_type_is_told_by_the_bytes_not_by_the_header(ask, says, http, picture):
    row = ask(says(http(picture(form="PNG"), Content_Type="text/html")))
    assert (row["state"], row["file"][-4:]) == ("ok", ".png")


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html><html><body>404, but with status 200</body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
        b"%PDF-1.7 and more of it",
        b"\xff\xd8",
        b"",
    ],
)
def test_what_is_no_image(ask, says, http, body):
    assert outcome(ask(says(http(body, Content_Type="image/jpeg")))) == ("refused", "not an image", 1)


def test_an_image_cut_short(ask, says, http, picture):
    whole = picture(side=128)
    assert outcome(ask(says(http(whole[: len(whole) // 2])))) == ("refused", "broken image", 1)


def test_a_png_that_declares_billions_of_pixels(ask, says, http, bomb):
    assert len(bomb) < 1000
    assert outcome(ask(says(http(bomb, Content_Type="image/png")))) == ("refused", "too many pixels", 1)


def test_a_compressed_body_is_not_unpacked(ask, says, http):
    packed = gzip.compress(bytes(50_000_000))
    assert len(packed) < 100_000
    row = ask(says(http(packed, Content_Encoding="gzip", Content_Type="image/jpeg")))
    assert outcome(row) == ("refused", "compressed body", 1)


def test_redirects_in_a_circle(ask, says, http, server):
    row = ask(says(http(b"", "302 Found", Location="/x")))
    assert outcome(row) == ("refused", "too many redirects", 1)
    assert server.asked["/x"] == 6


def test_a_redirect_that_may_be_followed(ask, says, http, server):
    row = ask(says(http(b"", "301 Moved Permanently", Location="/good/7.jpg#there")))
    assert (row["state"], row["attempts"]) == ("ok", 1)
    assert server.asked["/good/7.jpg"] == 1


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/", "address not allowed"),
        ("http://localhost:{port}/good/1.jpg", "private address"),
        ("http://[::1]:{port}/good/1.jpg", "private address"),
        ("http://[::ffff:10.0.0.1]/a.jpg", "private address"),
        ("http://2130706433:{port}/good/1.jpg", "not a valid URL"),
        ("http://127.1:{port}/good/1.jpg", "not a valid URL"),
        ("http://0.0.0.0:{port}/good/1.jpg", "address not allowed"),
        ("file:///etc/passwd", "redirect: neither http nor https"),
        ("ftp://127.0.0.1/a.jpg", "redirect: neither http nor https"),
        ("http://user:word@127.0.0.1:{port}/good/1.jpg", "redirect: user name or password in the URL"),
        ("http://127.0.0.1:6379/", "redirect: port not allowed"),
        ("http://[::1", "redirect: not a valid URL"),
    ],
)
def test_a_redirect_to_where_nobody_may_go(ask, says, http, server, target, reason):
    row = ask(says(http(b"", "302 Found", Location=target.format(port=server.port))))
    assert (row["state"], row["reason"]) == ("refused", reason)
    assert set(server.asked) == {"/x"}


def test_too_many_requests_with_a_time_to_wait(ask, http, picture, server):
    times = []

    async def busy(server, writer, path):
        times.append(time.monotonic())
        tired = http(b"", "429 Too Many Requests", Retry_After="1")
        writer.write(tired if len(times) == 1 else http(picture()))

    assert outcome(ask(busy)) == ("ok", None, 2)
    assert times[1] - times[0] >= 1


def test_two_errors_and_then_the_image(ask, http, picture):
    turns = iter([http(b"", "500 Internal Server Error"), http(b"", "503 Service Unavailable"), http(picture())])

    async def shaky(server, writer, path):
        writer.write(next(turns))

    assert outcome(ask(shaky)) == ("ok", None, 3)


def test_errors_without_end(ask, says, http, server):
    assert outcome(ask(says(http(b"", "502 Bad Gateway")))) == ("failed", "HTTP 502", 3)
    assert server.asked["/x"] == 3


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "204 No Content", "206 Partial Content"])
def test_a_no_that_is_final(ask, says, http, server, status):
    assert outcome(ask(says(http(b"", status)))) == ("refused", f"HTTP {status[:3]}", 1)


def test_a_connection_that_is_reset(ask, server):
    async def reset(server, writer, path):
        writer.transport.abort()

    assert outcome(ask(reset)) == ("failed", "connection lost", 3)


def test_what_is_not_http(ask, says):
    row = ask(says(b"220 smtp.example ESMTP\r\n\r\n"))
    assert row["state"] in ("refused", "failed")


def test_nobody_listens(server, tmp_path, patient, make_work, fetch):
    settings = patient(server, ports="1")
    row = fetch(make_work(tmp_path, ["http://127.0.0.1:1/a.jpg"]), settings)[0]
    assert outcome(row) == ("failed", "no connection", 3)


def test_a_certificate_that_nobody_vouches_for(server, tmp_path, patient, make_work, fetch):
    pair = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    name = ["-subj", "/CN=images.example", "-addext", "subjectAltName=DNS:images.example"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *pair, *name]
    subprocess.run(made, check=True, capture_output=True)
    tls = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", str(tmp_path / "cert.pem"), "-WWW"]
    (tmp_path / "a.jpg").write_bytes(b"")
    with subprocess.Popen([*tls, "-key", str(tmp_path / "key.pem")], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        try:
            line = process.stdout.readline()
            while not line.startswith(b"ACCEPT"):
                line = process.stdout.readline()
            port = int(line.split(b":")[1])

            async def here(host):
                return ["127.0.0.1"]

            def row(folder, **changes):
                settings = patient(server, ports=str(port), allow_hosts="images.example,other.example", **changes)
                urls = [f"https://images.example:{port}/a.jpg", f"https://other.example:{port}/a.jpg"]
                return [outcome(row)[:2] for row in fetch(make_work(tmp_path / folder, urls), settings, lookup=here)]

            unknown = ("refused", "no trusted TLS connection")
            assert row("one") == [unknown, unknown]
            assert row("two", ca_file=tmp_path / "cert.pem") == [("refused", "not an image"), unknown]
        finally:
            process.kill()


def test_no_secret_reaches_a_log(server, tmp_path, patient, make_work, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    urls = [f"{server.url}{path}?token=s3cret" for path in ("/good/1.jpg", "/missing", "/reset")]

    async def reset(server, writer, path):
        writer.transport.abort()

    server.answers["/reset"] = reset
    urls += ["http://user:s3cret@127.0.0.1/a.jpg", "http://10.0.0.1/?token=s3cret"]
    work = make_work(tmp_path, urls)
    run_fetch_images(patient(server), work)
    said = caplog.text + "".join(capfd.readouterr())
    assert "s3cret" not in said
    assert "s3cret" not in (work / "images" / "stage.json").read_text()


def test_the_environment_names_no_proxy(ask, says, http, picture, server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert ask(says(http(picture())))["state"] == "ok"
    assert "Accept-Encoding: identity" in server.headers["/x"]
