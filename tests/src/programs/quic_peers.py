"""QUIC servers and clients on aioquic, in one process, that say what became of each connection.

quic_peers.py CERTIFICATE KEY AUTHORITY COUNT

Makes COUNT rounds of connections of every kind, and prints a line of JSON for each: its ports, and what
the client's library says of it.
"""
import asyncio
import json
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from aioquic.quic.packet import QuicProtocolVersion

V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2
certificate, key, authority, count = sys.argv[1:]
NAME = "localhost"


class Peer(QuicConnectionProtocol):
    """A client that keeps what its library tells."""

    handshake = None
    end = None

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.handshake = event
        if isinstance(event, ConnectionTerminated):
            self.end = event
        super().quic_event_received(event)


async def answer(reader, writer):
    await reader.read()
    writer.write(b"ok")
    writer.write_eof()


def serve_stream(reader, writer):
    asyncio.ensure_future(answer(reader, writer))


class Server:
    """Keeps its sessions, which are what aioquic's tickets name."""

    def __init__(self, keeps=True):
        self.keeps = keeps
        self.sessions = {}

    def keep(self, ticket):
        if self.keeps:
            self.sessions[ticket.ticket] = ticket

    async def start(self, **options):
        configuration = QuicConfiguration(
            is_client=False, alpn_protocols=["test"], supported_versions=[V2, V1]
        )
        configuration.load_cert_chain(certificate, key)
        server = await serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            session_ticket_fetcher=lambda label: self.sessions.get(label),
            session_ticket_handler=self.keep,
            stream_handler=serve_stream,
            **options,
        )
        self.port = server._transport.get_extra_info("sockname")[1]
        return self


async def ask(kind, server, ticket=None, early=False, versions=(V1,), protocol="test"):
    """One connection; the ticket that it brought. With `early`, what it asks for is early data."""
    tickets = []
    configuration = QuicConfiguration(
        alpn_protocols=[protocol],
        cafile=authority,
        original_version=versions[0],
        server_name=NAME,
        session_ticket=ticket,
        supported_versions=list(reversed(versions)),
        verify_mode=ssl.CERT_REQUIRED,
    )
    port, client = 0, None
    try:
        async with connect(
            "127.0.0.1",
            server.port,
            configuration=configuration,
            create_protocol=Peer,
            session_ticket_handler=tickets.append,
            wait_connected=False,
        ) as client:
            port = client._transport.get_extra_info("sockname")[1]
            if not early:
                client.transmit()
                await client.wait_connected()
            reader, writer = await client.create_stream()
            writer.write(b"hello")
            writer.write_eof()
            await reader.read()
            while not tickets:
                await asyncio.sleep(0.001)
    except ConnectionError:
        pass
    done = client and client.handshake
    print(json.dumps({
        "kind": kind,
        "client": port,
        "server": server.port,
        "established": bool(done),
        "resumed": bool(done and done.session_resumed),
        "early_data_offered": ticket is not None,
        "early_data_sent": early,
        "early_data_accepted": bool(done and done.early_data_accepted),
    }), flush=True)
    return tickets[-1] if tickets else None


async def main():
    plain = await Server().start()
    retrying = await Server().start(retry=True)
    forgetful = await Server(keeps=False).start()
    for _ in range(int(count)):
        ticket = await ask("full", plain)
        ticket = await ask("resumed", plain, ticket)
        ticket = await ask("early data", plain, ticket, early=True)
        ticket = await ask("version 2", plain, ticket, versions=(V2,))
        ticket = await ask("negotiates version 2", plain, ticket, versions=(V1, V2))
        ticket = await ask("the same again", plain, ticket, versions=(V1, V2), early=True)
        await ask("no common protocol", plain, protocol="other")
        ticket = await ask("retry", retrying)
        ticket = await ask("retry, resumed", retrying, ticket)
        ticket = await ask("forgotten", forgetful)
        ticket = await ask("forgotten, offered", forgetful, ticket)
        await ask("forgotten, early data", forgetful, ticket, early=True)


asyncio.run(main())
