#!/usr/bin/env python3
"""Asks nginx and our server the same things, as a stranger would, and lists what they answer differently.

Both have the same certificate and the same site: ours passes strangers on to that nginx. The program ends with 1 if there
is a difference that is not explained below. It uses loopback only.

    tests/strangers/beside_nginx.py [--patient] [PROGRAM]      the default is target/release/vless-rust

With --patient it also waits for the ends of those who say nothing or not enough, two minutes.
"""

import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from ports import free_port  # noqa: E402

PATIENCE = 15
# Who says nothing for so long keeps the connection open.
QUIET = 1.5
STRANGER_ID = bytes(range(16))
VLESS = b"\0" + STRANGER_ID + b"\0\1" + (443).to_bytes(2, "big") + b"\1" + bytes([192, 0, 2, 1])

# Differences that are known, each with the reason why it stays.
SNIFFED = "nginx answers in HTTP to what is not TLS, as Apache and Go's servers do to a request; ours says what TLS itself " \
          "says. Whoever knows from the fallback's answers that it is nginx knows from this that something is before it"
ALERTS = "both refuse with a fatal alert and an end; which one is OpenSSL's or rustls's own choice"
CLOSES = "ours says close_notify (RFC 8446 6.1) also to who has ended; nginx does not"
LIBRARY = "OpenSSL's or rustls's own choice; whoever looks at TLS closely knows one from the other"
DEADLINES = "timeouts.tls_handshake is 10 s, nginx's client_header_timeout is 60 s; every server has a time of its own here"
EXPLAINED = {
    "plain HTTP to the TLS port": SNIFFED,
    "garbage": ALERTS + "; OpenSSL ends without one where the version in the record cannot be",
    "garbage of zeros": SNIFFED,
    "an SSH client": SNIFFED,
    "a replayed VLESS request without TLS": SNIFFED,
    "TLS 1.0": ALERTS,
    "TLS 1.1": ALERTS,
    "a record that is too long": ALERTS,
    "application data before the handshake": SNIFFED,
    "an alert before the handshake": SNIFFED,
    "a request, then the end of TCP": CLOSES,
    "an answer, then the client's close_notify": CLOSES,
    "agreed: http/1.0 is offered": "nginx takes this name, too; ours says alert 120, as to any other that is not offered",
    "agreed: a name that cannot be one": "rustls refuses with alert 47, OpenSSL looks at no name",
    "agreed: CBC": LIBRARY,
    "agreed: P-521": LIBRARY,
    "records of a handshake": LIBRARY + ": the sizes of what is encrypted, and two tickets or one",
    "lifetime of a ticket": "300 s is nginx's ssl_session_timeout, 12 hours are rustls's",
    "more behind the last answer": "nginx ends TCP for both directions; ours ends its own, as the fallback did, and hears the "
                                   "other one for a while",
    "nothing": DEADLINES,
    "half a hello": DEADLINES,
    "TLS and nothing": "ours waits timeouts.first_byte before it passes silence on, and the fallback waits again",
}


def main():
    words = [word for word in sys.argv[1:] if word != "--patient"]
    program = pathlib.Path(words[0] if words else ROOT / "target/release/vless-rust").resolve()
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        stage = Stage(folder, nginx, program)
        try:
            stage.start()
            different = compare(PROBES, stage)
            if "--patient" in sys.argv:
                different += compare([(name, in_advance(probe, stage)) for name, probe in PATIENT], stage)
        finally:
            stage.stop()
    unexplained = [name for name in different if name not in EXPLAINED]
    count = len(PROBES) + (len(PATIENT) if "--patient" in sys.argv else 0)
    print(f"{count} probes, {len(different)} differences, {len(unexplained)} of them unexplained")
    sys.exit(1 if unexplained else 0)


def compare(probes, stage):
    different = []
    for name, probe in probes:
        theirs, ours = (observe(probe, port) for port in (stage.nginx_tls, stage.ours))
        if theirs != ours:
            different.append(name)
            print(f"DIFFERENT {name}\n  nginx: {theirs}\n  ours:  {ours}\n  why:   {EXPLAINED.get(name, 'NOT EXPLAINED')}")
        else:
            print(f"same      {name}: {short(ours)}")
    return different


def in_advance(probe, stage):
    """The same probe, which is under way at both from now on."""
    answers = {}
    threads = {port: threading.Thread(target=lambda port=port: answers.update({port: observe(probe, port)}))
               for port in (stage.nginx_tls, stage.ours)}
    for thread in threads.values():
        thread.start()

    def wait(port):
        threads[port].join()
        return answers[port]
    return wait


def short(answer):
    return str(answer) if len(str(answer)) < 110 else str(answer)[:107] + "..."


def observe(probe, port):
    try:
        return probe(port)
    except ssl.SSLError as error:
        return ("TLS says", error.reason)
    except ConnectionResetError:
        return ("reset",)


class Stage:
    """nginx with TLS, the same without, and our server in front of the latter."""

    def __init__(self, folder, nginx, program):
        self.folder, self.nginx, self.program = folder, nginx, program
        self.nginx_tls, self.nginx_plain, self.ours = free_port(), free_port(), free_port()
        self.processes = []

    def start(self):
        site = self.folder / "site"
        site.mkdir()
        (site / "index.html").write_text("<p>home</p>" * 100)
        (site / "a.css").write_text("p {}")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
             "-subj", "/CN=a.test", "-addext", "subjectAltName=DNS:a.test", "-keyout", self.folder / "key.pem",
             "-out", self.folder / "cert.pem"],
            check=True, capture_output=True)
        (self.folder / "key.pem").chmod(0o600)
        (self.folder / "nginx.conf").write_text(self.nginx_conf(site))
        (self.folder / "config.json").write_text(self.our_config())
        self.spawn([self.nginx, "-p", self.folder, "-c", self.folder / "nginx.conf", "-g", "daemon off;"])
        self.spawn([self.program, "run", self.folder / "config.json"])
        for port in (self.nginx_tls, self.nginx_plain, self.ours):
            wait_for(port)

    def nginx_conf(self, site):
        folder = self.folder
        paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        tls = f"listen 127.0.0.1:{self.nginx_tls} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; " \
              "ssl_protocols TLSv1.2 TLSv1.3;"
        body = f"root {site}; client_header_timeout 60; keepalive_timeout 75;"
        return f"""
            worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
            {'user root;' if is_root() else ''}
            events {{ worker_connections 512; }}
            http {{ access_log off; default_type text/html; {paths}
                server {{ {tls} {body} }}
                server {{ listen 127.0.0.1:{self.nginx_plain}; {body} }} }}
        """

    def our_config(self):
        return f"""{{
            "server": {{ "listen": "127.0.0.1", "port": {self.ours}, "workers": 1 }},
            "users": [ {{ "uuid": "5783a3e7-e373-51cd-8642-c83782b807c5" }} ],
            "tls": {{ "enabled": true, "cert_file": "cert.pem", "key_file": "key.pem", "server_name": "a.test",
                      "alpn": ["http/1.1"] }},
            "fallbacks": [ {{ "dest": "127.0.0.1:{self.nginx_plain}" }} ],
            "monitoring": {{ "enabled": false }}, "users_file": null
        }}"""

    def spawn(self, command):
        self.processes.append(subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL,
                                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def is_root():
    import os
    return os.geteuid() == 0


def wait_for(port):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nobody listens on {port}")


def connect(port):
    tcp = socket.create_connection(("127.0.0.1", port), PATIENCE)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tcp


def wrapped(port, name="a.test", alpn=("http/1.1",), version=None, ciphers=None, curve=None, option=0):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    context.options |= option
    if ciphers:
        context.set_ciphers(ciphers)
    if curve:
        context.set_ecdh_curve(curve)
    if version:
        context.minimum_version = context.maximum_version = version
    return context.wrap_socket(connect(port), server_hostname=name, suppress_ragged_eofs=False)


def heard(sock):
    """What comes until the end or until it is quiet, and how it ends."""
    sock.settimeout(QUIET)
    got = b""
    while True:
        try:
            part = sock.recv(65536)
        except TimeoutError:
            return got, "open"
        except ConnectionResetError:
            return got, "reset"
        except ssl.SSLEOFError:
            return got, "end without close_notify"
        except ssl.SSLError as error:
            return got, f"TLS says {error.reason}"
        if not part:
            return got, "end"
        got += part


def raw(*parts, fin=False):
    """Bytes without TLS. Of TLS records in the answer only types count, of alerts the description, too."""
    def probe(port):
        with connect(port) as tcp:
            for part in parts:
                tcp.sendall(part)
            if fin:
                tcp.shutdown(socket.SHUT_WR)
            answer, end = heard(tcp)
            return records(answer), end
    return probe


def records(answer):
    found = []
    while len(answer) >= 5 and answer[0] in (20, 21, 22, 23):
        length = int.from_bytes(answer[3:5], "big")
        body = answer[5:5 + length]
        found.append(("alert", body[1]) if answer[0] == 21 and len(body) == 2 else answer[0])
        answer = answer[5 + length:]
    return found + ([answer[:12]] if answer else [])


def http(answer):
    """Answers in HTTP without what the time changes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")]
    return lines[:1], sorted(lines[1:]), len(body), body[:60]


def inside(*parts, pause=0.0, then=None, **manner):
    """Bytes inside TLS, and what comes back."""
    def probe(port):
        with wrapped(port, **manner) as tls:
            for part in parts:
                tls.sendall(part)
                time.sleep(pause)
            if then:
                then(tls)
            answer, end = heard(tls)
            return http(answer), end
    return probe


def agreed(**manner):
    def probe(port):
        with wrapped(port, **manner) as tls:
            return tls.version(), tls.selected_alpn_protocol()
    return probe


def end_tcp(tls):
    # Beneath TLS: no close_notify goes before.
    socket.socket.shutdown(tls, socket.SHUT_WR)


def resumed(version):
    def probe(port):
        with wrapped(port, version=version) as first:
            first.sendall(get())
            heard(first)
            session, context = first.session, first.context
        with context.wrap_socket(connect(port), server_hostname="a.test", session=session) as tls:
            return tls.session_reused
    return probe


def lifetime(port):
    with wrapped(port) as tls:
        tls.sendall(get())
        heard(tls)
        return tls.session.ticket_lifetime_hint


def handshake_records(port):
    """Type and length of each record from the server until it waits for a request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    received, out, answer = ssl.MemoryBIO(), ssl.MemoryBIO(), b""
    client = context.wrap_bio(received, out, server_hostname="a.test")
    with connect(port) as tcp:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                tcp.sendall(out.read())
                answer += (part := tcp.recv(65536))
                received.write(part)
        tcp.sendall(out.read())
        answer += heard(tcp)[0]
    found = []
    while answer:
        length = int.from_bytes(answer[3:5], "big")
        # A signature has not always the same length.
        found.append((answer[0], length // 10 * 10))
        answer = answer[5 + length:]
    return found


def end_tls(tls):
    answer = tls.recv(65536)
    tls.unwrap()
    return answer


def more_behind(tls):
    heard(tls)
    for _ in range(10):
        tls.sendall(b"more")
        time.sleep(0.02)


def until_the_end(probe):
    """What comes, how it ends, and after how many seconds."""
    def wait(port):
        sock, begin = probe(port), time.monotonic()
        with sock:
            sock.settimeout(200)
            got = b""
            try:
                while part := sock.recv(65536):
                    got += part
            except (ssl.SSLError, ConnectionResetError):
                pass
            return got[:12], f"ends after {round((time.monotonic() - begin) / 5) * 5} s"
    return wait


def said(sock, *parts):
    for part in parts:
        sock.sendall(part)
    return sock


def broken_record(port):
    with wrapped(port) as tls:
        plain = socket.socket(fileno=socket.dup(tls.fileno()))
        plain.sendall(b"\x17\x03\x03\x00\x20" + b"\7" * 32)
        return heard(tls)


def old_hello(version):
    body = version + b"\7" * 32 + b"\0\0\4\0\x2f\xc0\x13\1\0"
    message = b"\1\0" + len(body).to_bytes(2, "big") + body
    return b"\x16\3\1" + len(message).to_bytes(2, "big") + message


def get(path="/", more=""):
    return f"GET {path} HTTP/1.1\r\nHost: a.test\r\n{more}\r\n".encode()


def post(more):
    return f"POST / HTTP/1.1\r\nHost: a.test\r\n{more}\r\n".encode()


CLOSE = "Connection: close\r\n"

PROBES = [
    ("nothing, then the end", raw(fin=True)),
    ("plain HTTP to the TLS port", raw(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")),
    ("garbage", raw(b"\xff\xfe\xfd" * 30)),
    ("garbage of zeros", raw(b"\0" * 64)),
    ("an SSH client", raw(b"SSH-2.0-OpenSSH_9.2\r\n")),
    ("a replayed VLESS request without TLS", raw(VLESS)),
    ("half a hello", raw(b"\x16\3\1\2\0\1\0\1\xfc\3\3")),
    ("half a hello, then the end", raw(b"\x16\3\1\2\0\1\0\1\xfc\3\3", fin=True)),
    ("TLS 1.0", raw(old_hello(b"\3\1"))),
    ("TLS 1.1", raw(old_hello(b"\3\2"))),
    ("SSL 3", raw(old_hello(b"\3\0"))),
    ("a record that is too long", raw(b"\x16\3\1\xff\xff")),
    ("application data before the handshake", raw(b"\x17\3\3\0\5hello")),
    ("an alert before the handshake", raw(b"\x15\3\1\0\2\2\x28")),
    ("agreed: both versions, http/1.1", agreed()),
    ("agreed: TLS 1.2", agreed(version=ssl.TLSVersion.TLSv1_2)),
    ("agreed: no ALPN", agreed(alpn=())),
    ("agreed: h2 and http/1.1 are offered", agreed(alpn=("h2", "http/1.1"))),
    ("agreed: another server name", agreed(name="b.test")),
    ("agreed: no server name", agreed(name=None)),
    ("agreed: only h2 is offered", agreed(alpn=("h2",))),
    ("agreed: only something else is offered", agreed(alpn=("acme-tls/1",))),
    ("agreed: http/1.0 is offered", agreed(alpn=("http/1.0",))),
    ("agreed: a name that cannot be one", agreed(name="-a.test")),
    ("agreed: CBC", agreed(version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-SHA")),
    ("agreed: P-384", agreed(curve="secp384r1")),
    ("agreed: P-521", agreed(curve="secp521r1")),
    ("records of a handshake", handshake_records),
    ("lifetime of a ticket", lifetime),
    ("resumed with TLS 1.3", resumed(ssl.TLSVersion.TLSv1_3)),
    ("resumed with TLS 1.2", resumed(ssl.TLSVersion.TLSv1_2)),
    ("GET", inside(get(more=CLOSE))),
    ("GET, kept open", inside(get())),
    ("HEAD", inside(b"HEAD / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")),
    ("a path that is not there", inside(get("/none", CLOSE))),
    ("POST", inside(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")),
    ("HTTP/1.0", inside(b"GET / HTTP/1.0\r\n\r\n")),
    ("no Host", inside(b"GET / HTTP/1.1\r\n\r\n")),
    ("no request at all", inside(b"hello\r\n\r\n")),
    ("a path of 9,000 bytes", inside(get("/" + "a" * 9000))),
    ("a field of 40,000 bytes", inside(get(more=f"Cookie: {'a' * 40000}\r\n"))),
    ("the preface of HTTP/2", inside(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
    ("a replayed VLESS request", inside(VLESS)),
    ("a replayed VLESS request and more", inside(VLESS + b"\x16\3\1\2\0" + b"\7" * 500)),
    ("one zero", inside(b"\0")),
    ("17 bytes of garbage", inside(b"\xff" * 17)),
    ("two requests at once", inside(get() + get("/a.css", CLOSE))),
    ("a request in two records, the first of one byte", inside(b"G", get(more=CLOSE)[1:], pause=0.1)),
    ("HTTP/0.9", inside(b"GET /\r\n")),
    ("a body that is asked for first", inside(post("Expect: 100-continue\r\nContent-Length: 3\r\n"))),
    ("chunks and a length", inside(post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n") + b"0\r\n\r\n")),
    ("an answer, then the client's close_notify", inside(get("/a.css"), then=end_tls)),
    ("more behind the last answer", inside(get(more=CLOSE), then=more_behind)),
    ("slow bytes", inside(*[bytes([byte]) for byte in get("/a.css", CLOSE)], pause=0.01)),
    ("silence", inside()),
    ("a request, then the end of TCP", inside(get("/a.css"), then=end_tcp)),
    ("a part", inside(get("/a.css", f"Range: bytes=1-2\r\n{CLOSE}"))),
    ("a record that was tampered with", broken_record),
]

# Those that only time ends.
PATIENT = [
    ("nothing", until_the_end(connect)),
    ("half a hello", until_the_end(lambda port: said(connect(port), b"\x16\3\1\2\0\1\0\1\xfc\3\3"))),
    ("TLS and nothing", until_the_end(wrapped)),
    ("TLS and one byte", until_the_end(lambda port: said(wrapped(port), b"G"))),
    ("half a request", until_the_end(lambda port: said(wrapped(port), get()[:-2]))),
    ("an answer, then nothing", until_the_end(lambda port: said(wrapped(port), get("/none")))),
]

if __name__ == "__main__":
    main()
