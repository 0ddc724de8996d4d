"""A TLS proxy that connects TensorFlow's gs:// file system to the emulator on this machine.

TensorFlow always uses TLS and Google's own hosts. The proxy poses as these hosts with a
self-signed certificate, and forwards the requests to the emulator.
"""

import datetime
import http.client
import socketserver
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import ROOT

_HOSTS = ("www.googleapis.com", "storage.googleapis.com")


def _certificate(folder: Path) -> Path:
    """A key and a self-signed certificate for Google's hosts, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test on this machine")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in _HOSTS]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "google.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


class _Forward(BaseHTTPRequestHandler):
    """Forwards the requests of one connection to the emulator."""

    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        assert self.path.partition(":")[0] in _HOSTS, self.path
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = socketserver._SocketWriter(self.connection)
        self.close_connection = False

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _forward(self) -> None:
        body = self._body()
        emulator = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name not in ("Host", "Content-Length", "Transfer-Encoding")
        }
        if body:
            headers["Content-Length"] = str(len(body))
        try:
            emulator.request(self.command, self.path, body, headers)
            response = emulator.getresponse()
            content = response.read()
        except OSError:
            self.close_connection = True
            return
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name not in ("Content-Length", "Server", "Date"):
                # The upload URL must lead to the proxy again.
                here = f"http://127.0.0.1:{self.server.port}"
                self.send_header(name, value.replace(here, f"https://{_HOSTS[0]}"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _forward

    def log_message(self, *words: object) -> None:
        pass


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, certificate: Path, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.port = port
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate)


@contextmanager
def proxy_to(port: int, folder: Path) -> Iterator[dict[str, str]]:
    """Runs the proxy; yields the environment variables that make TensorFlow use it.

    The proxy is a separate process: TensorFlow holds the GIL while it waits for a response.
    """
    certificate = _certificate(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.gs", certificate, str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield {
            "https_proxy": f"http://127.0.0.1:{int(process.stdout.readline())}",
            "CURL_CA_BUNDLE": str(certificate),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "anyone",
            # With the defaults, ten failed attempts take minutes.
            "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "1000",
            "GCS_RETRY_CONFIG_MAX_DELAY_TIME_US": "100000",
        }
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    with _Proxy(Path(sys.argv[1]), int(sys.argv[2])) as proxy:
        print(proxy.server_address[1], flush=True)
        proxy.serve_forever()
