"""TLS that begins, ends and begins again on one connection: twice.py CERTIFICATE KEY NAME VERSION.

The client offers from the second handshake on the session of the one before. Prints the client's port
and the server's, and for each handshake `Reused` or `New`.
"""
import socket
import ssl
import sys
import threading

certificate, key, name, version = sys.argv[1:]
HANDSHAKES = 3

serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
serving.load_cert_chain(certificate, key)
asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
asking.check_hostname = False
asking.verify_mode = ssl.CERT_NONE
asking.minimum_version = asking.maximum_version = ssl.TLSVersion[version]

listener = socket.create_server(("127.0.0.1", 0))


def serve():
    connection, _ = listener.accept()
    connection.sendall(b"220 ready\r\n")
    for _ in range(HANDSHAKES):
        assert connection.recv(100) == b"AUTH TLS\r\n"
        connection.sendall(b"234 go on\r\n")
        tls = serving.wrap_socket(connection, server_side=True)
        assert tls.recv(100) == b"CCC\r\n"
        tls.sendall(b"200 in the open again\r\n")
        connection = tls.unwrap()


threading.Thread(target=serve, daemon=True).start()
connection = socket.create_connection(listener.getsockname())
ports = connection.getsockname()[1], connection.getpeername()[1]
connection.recv(100)
session, said = None, []
for _ in range(HANDSHAKES):
    connection.sendall(b"AUTH TLS\r\n")
    connection.recv(100)
    tls = asking.wrap_socket(connection, server_hostname=name, session=session)
    said.append("Reused" if tls.session_reused else "New")
    tls.sendall(b"CCC\r\n")
    tls.recv(100)
    session = tls.session
    connection = tls.unwrap()
print(*ports, *said, flush=True)
