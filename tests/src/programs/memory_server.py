"""A TLS server on buffers in memory, as asyncio's is, that times each call of its handshake.

memory_server.py CERTIFICATE KEY

Prints its port, and then a line a handshake: the client's port, and the nanoseconds that its thread was
on a CPU within the calls (CLOCK_THREAD_CPUTIME_ID). What Python takes around the library is left out: of
a call that returns, as much as one takes when the handshake is finished, which the library answers at
once; of a call that raises, as much as a read takes that finds nothing.
"""
import socket
import ssl
import sys
import time

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))


def timed(call):
    before = time.thread_time_ns()
    try:
        call()
        done = True
    except ssl.SSLWantReadError:
        done = False
    return done, time.thread_time_ns() - before


print(listener.getsockname()[1], flush=True)

while True:
    connection, (_, port) = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, sent, server_side=True)
    raised = 0
    # Before anything came, as asyncio does.
    done, spent = timed(tls.do_handshake)
    while not done:
        raised += 1
        data = connection.recv(65536)
        if not data:
            break
        received.write(data)
        done, nanoseconds = timed(tls.do_handshake)
        spent += nanoseconds
        connection.sendall(sent.read())
    if done:
        _, nothing = timed(lambda: tls.read(1))
        _, again = timed(tls.do_handshake)
        print(port, max(0, spent - raised * nothing - again), flush=True)
        tls.write(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
        connection.sendall(sent.read())
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass
    connection.close()
