#!/usr/bin/env python3
"""Writes the *.txt beside it: real handshakes of OpenSSL, in memory, through Python's ssl.

One line a flight: `C` or `S` (who sent it) and its bytes in hex. Keys and certificates are made
anew on each run and thrown away.
"""
import os
import ssl
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def certificate(folder, name, key="ec"):
    pem, secret = f"{folder}/{name}.pem", f"{folder}/{name}.key"
    kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["rsa:2048"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "1", "-subj",
         f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", secret, "-out", pem],
        check=True, capture_output=True)
    return pem, secret


class Pair:
    """A server and a client context; `run` does one connection."""

    def __init__(self, folder, version, tickets=True, client_version=None, ask=False, present=False,
                 trust=True, server_curve=None, server_ciphers=None, client_ciphers=None,
                 num_tickets=2):
        version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(*certificate(folder, "www.example.com"))
        self.server.maximum_version = version
        self.server.num_tickets = num_tickets
        self.server.set_alpn_protocols(["http/1.1"])
        if not tickets:
            self.server.options |= ssl.OP_NO_TICKET
        if server_curve:
            self.server.set_ecdh_curve(server_curve)
        if server_ciphers:
            self.server.set_ciphers(server_ciphers)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.set_alpn_protocols(["h2", "http/1.1"])
        if client_ciphers:
            self.client.set_ciphers(client_ciphers)
        if client_version == "only":
            self.client.minimum_version = self.client.maximum_version = version
        if not tickets:
            self.client.options |= ssl.OP_NO_TICKET
        if trust:
            self.client.load_verify_locations(f"{folder}/www.example.com.pem")
        if ask:
            pem, secret = certificate(folder, "client.example.com")
            self.server.verify_mode = ssl.CERT_REQUIRED
            self.server.load_verify_locations(pem)
            if present:
                self.client.load_cert_chain(pem, secret)
        self.session = None

    def run(self, name=None):
        c_in, c_out, s_in, s_out = (ssl.MemoryBIO() for _ in range(4))
        client = self.client.wrap_bio(c_in, c_out, server_hostname="www.example.com",
                                      session=self.session)
        server = self.server.wrap_bio(s_in, s_out, server_side=True)
        lines = []

        def step(action):
            try:
                action()
                return "done"
            except ssl.SSLWantReadError:
                return "more"
            except ssl.SSLError as error:
                return error.reason or "error"
            finally:
                for tag, bio, to in (("C", c_out, s_in), ("S", s_out, c_in)):
                    data = bio.read()
                    if data:
                        lines.append(f"{tag} {data.hex()}")
                        to.write(data)

        ends = {}
        for _ in range(6):
            for tag, end in (("C", client), ("S", server)):
                if ends.get(tag, "more") == "more":
                    ends[tag] = step(end.do_handshake)
        if ends == {"C": "done", "S": "done"}:
            step(lambda: client.write(b"GET / HTTP/1.1\r\n\r\n"))
            step(lambda: server.read(100))
            step(lambda: server.write(b"HTTP/1.1 204 No Content\r\n\r\n"))
            step(lambda: client.read(100))
            self.session = client.session
            step(client.unwrap)
            step(server.unwrap)
        print(name, ends, len(lines), "flights, reused:", client.session_reused)
        if name:
            (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")
        return self


with tempfile.TemporaryDirectory() as folder:
    Pair(folder, "1.3").run("tls13_full").run("tls13_psk")
    Pair(folder, "1.3", num_tickets=0).run("tls13_full_no_tickets")
    Pair(folder, "1.3", server_curve="secp384r1").run("tls13_retry").run("tls13_retry_psk")
    Pair(folder, "1.3", ask=True, present=True).run("tls13_client_certificate")
    Pair(folder, "1.3", ask=True).run("tls13_client_certificate_missing")
    Pair(folder, "1.3", trust=False).run("tls13_server_certificate_rejected")
    Pair(folder, "1.2").run("tls12_full").run("tls12_ticket")
    Pair(folder, "1.2", tickets=False).run("tls12_full_no_tickets").run("tls12_session_id")
    Pair(folder, "1.2", trust=False).run("tls12_server_certificate_rejected")
    Pair(folder, "1.2", ask=True, present=True).run("tls12_client_certificate")
    Pair(folder, "1.2", client_version="only", server_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256",
         client_ciphers="ECDHE-RSA-AES256-GCM-SHA384").run("tls12_no_shared_cipher")
