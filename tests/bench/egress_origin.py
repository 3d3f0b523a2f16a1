"""The origin: HTTPS with `/small` and `/bulk/BYTES`. Arguments: address, port, file with its key and certificate."""

import socket
import ssl
import sys
import threading

BLOCK = bytes(1 << 20)
SMALL = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


def serve(sock: socket.socket, context: ssl.SSLContext) -> None:
    try:
        with context.wrap_socket(sock, server_side=True) as tls:
            tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while head := tls.recv(65536):
                path = head.split(b" ")[1]
                if path == b"/small":
                    tls.sendall(SMALL)
                else:
                    left = int(path.rpartition(b"/")[2])
                    tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % left)
                    while left:
                        left -= tls.send(BLOCK[: min(left, len(BLOCK))])
    except OSError:
        return


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3])
    with socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=256) as listener:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve, args=(sock, context), daemon=True).start()


if __name__ == "__main__":
    main()
