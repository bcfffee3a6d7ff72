"""A client of HTTP/3 that does what it is told, and says what became of it.

h3_client.py PORT AUTHORITY NAME

Each line on standard input is a connection: `new`, or `again` with the latest ticket. Prints a line of
JSON for each.
"""
import asyncio
import json
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted

port, authority, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]


class Client(QuicConnectionProtocol):
    handshake = None
    status = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.answered = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.handshake = event
        for answer in self.http.handle_event(event):
            if isinstance(answer, HeadersReceived):
                self.status = dict(answer.headers)[b":status"].decode()
                self.answered.set()

    async def get(self):
        stream = self._quic.get_next_available_stream_id()
        headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"),
                   (b":authority", name.encode())]
        self.http.send_headers(stream, headers, end_stream=True)
        self.transmit()
        await asyncio.wait_for(self.answered.wait(), 10)


async def once(ticket):
    tickets = []
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, cafile=authority, server_name=name, session_ticket=ticket,
        verify_mode=ssl.CERT_REQUIRED)
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client,
                       session_ticket_handler=tickets.append) as client:
        local = client._transport.get_extra_info("sockname")[1]
        await client.get()
        for _ in range(1000):
            if tickets:
                break
            await asyncio.sleep(0.001)
    print(json.dumps({"port": local, "status": client.status,
                      "resumed": client.handshake.session_resumed}), flush=True)
    return tickets[-1] if tickets else None

ticket = None
for line in sys.stdin:
    ticket = asyncio.run(once(ticket if line.strip() == "again" else None))
