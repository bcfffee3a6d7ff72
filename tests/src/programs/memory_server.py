"""A TLS server on buffers in memory, as asyncio's is, that times each call of its handshake.

memory_server.py CERTIFICATE KEY [swapped]

Prints its port, and then a line a handshake: the client's port, and the nanoseconds that its thread was
on a CPU within the calls (CLOCK_THREAD_CPUTIME_ID). What Python takes around the library is left out: of
a call that returns, as much as one takes when the handshake is finished, which the library answers at
once; of a call that raises, as much as a read takes that finds nothing.

Swapped, two threads serve, and each of them sends what the other one's library wrote.
"""
import queue
import socket
import ssl
import sys
import threading
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


def serve(take, send):
    """One connection after the other, in steps: before each of them the client is to be heard."""
    while True:
        connection, port = take()
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
            send(connection, sent.read())
        if done:
            _, nothing = timed(lambda: tls.read(1))
            _, again = timed(tls.do_handshake)
            print(f"{port} {max(0, spent - raised * nothing - again)}\n", end="", flush=True)
            tls.write(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
            send(connection, sent.read())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
        connection.close()


def accept():
    connection, (_, port) = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection, port


def swapped():
    """Two threads that meet before they send, so that each has called its library since."""
    meeting, pairs = threading.Barrier(2), [queue.Queue(), queue.Queue()]
    to_send = [None, None]

    def sender(own):
        def send(connection, data):
            to_send[1 - own] = connection, data
            meeting.wait()
            connection, data = to_send[own]
            connection.sendall(data)
            meeting.wait()

        return send

    for own in (0, 1):
        threading.Thread(target=serve, args=(pairs[own].get, sender(own)), daemon=True).start()
    while True:
        # A connection each, so that both take the same steps.
        both = accept(), accept()
        for pair, accepted in zip(pairs, both):
            pair.put(accepted)


print(listener.getsockname()[1], flush=True)
if sys.argv[3:] == ["swapped"]:
    swapped()
serve(accept, lambda connection, data: connection.sendall(data))
