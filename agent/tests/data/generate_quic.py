#!/usr/bin/env python3
"""Writes quic_*.txt beside it: real handshakes of aioquic, in memory.

One line a datagram: `C` or `S` (who sent it) and its bytes in hex. Keys and certificates are made anew
on each run and thrown away.
"""
import subprocess
import tempfile
from pathlib import Path

from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion, encode_quic_retry, pull_quic_header

HERE = Path(__file__).parent
NAME = "www.example.com"
V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2
ENDS = [("192.0.2.9", 50000), ("192.0.2.1", 443)]


def certificate(folder):
    pem, secret = f"{folder}/server.pem", f"{folder}/server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "1", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
         "-keyout", secret, "-out", pem], check=True, capture_output=True)
    return pem, secret


def connection(name, pem, secret, ticket=None, tickets=None, versions=(V1,), early=False,
               protocol="h3", retry=False):
    """One connection; the ticket that the client got."""
    got, tickets = [], {} if tickets is None else tickets
    client = QuicConnection(
        configuration=QuicConfiguration(
            alpn_protocols=[protocol], cafile=pem, server_name=NAME, session_ticket=ticket,
            original_version=versions[0], supported_versions=list(reversed(versions))),
        session_ticket_handler=got.append)
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=["h3"], supported_versions=[V2, V1])
    configuration.load_cert_chain(pem, secret)
    lines, server, now = [], None, 0.0
    client.connect(ENDS[1], now)
    if early:
        client.send_stream_data(client.get_next_available_stream_id(), b"GET /", end_stream=True)
    original = retried = None
    for turn in range(12):
        now += 0.001
        sent = [data for data, _ in client.datagrams_to_send(now)]
        lines += [("C", data) for data in sent]
        for data in sent:
            header = pull_quic_header(Buffer(data=data), host_cid_length=8)
            if server is None:
                if retry and not header.token:
                    original, retried = header.destination_cid, b"retried!"
                    answer = encode_quic_retry(
                        version=header.version, source_cid=retried,
                        destination_cid=header.source_cid,
                        original_destination_cid=original, retry_token=b"token")
                    lines.append(("S", answer))
                    client.receive_datagram(answer, ENDS[1], now)
                    break
                server = QuicConnection(
                    configuration=configuration,
                    original_destination_connection_id=original or header.destination_cid,
                    retry_source_connection_id=retried,
                    session_ticket_fetcher=tickets.get,
                    session_ticket_handler=lambda one: tickets.setdefault(one.ticket, one))
            server.receive_datagram(data, ENDS[0], now)
        if server is not None:
            for data, _ in server.datagrams_to_send(now):
                lines.append(("S", data))
                client.receive_datagram(data, ENDS[1], now)
    text = "".join(f"{end} {data.hex()}\n" for end, data in lines)
    (HERE / f"quic_{name}.txt").write_text(text)
    return got[-1] if got else None


with tempfile.TemporaryDirectory() as folder:
    pem, secret = certificate(folder)
    tickets = {}
    ticket = connection("full", pem, secret, tickets=tickets)
    ticket = connection("psk", pem, secret, ticket, tickets)
    ticket = connection("early_data", pem, secret, ticket, tickets, early=True)
    ticket = connection("version2", pem, secret, ticket, tickets, versions=(V2,))
    ticket = connection("negotiated_version2", pem, secret, ticket, tickets, versions=(V1, V2))
    connection("forgotten", pem, secret, ticket)
    connection("retry", pem, secret, retry=True)
    connection("no_common_protocol", pem, secret, protocol="other")
