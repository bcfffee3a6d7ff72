/* A server with OpenSSL inside of it, which SSL_read drives: whole PORT CERTIFICATE KEY. */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    if (count != 4)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    address.sin_port = htons(atoi(arguments[1]));
    if (SSL_CTX_use_certificate_chain_file(context, arguments[2]) != 1
        || SSL_CTX_use_PrivateKey_file(context, arguments[3], SSL_FILETYPE_PEM) != 1)
        return 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 16))
        return 1;
    for (;;) {
        char request[4096];
        size_t length = 0;
        int got, connection = accept(listener, NULL, NULL);
        SSL *ssl = SSL_new(context);

        SSL_set_fd(ssl, connection);
        SSL_set_accept_state(ssl);
        while (length < sizeof(request) - 1
               && (got = SSL_read(ssl, request + length, sizeof(request) - 1 - length)) > 0) {
            length += got;
            request[length] = 0;
            if (strstr(request, "\r\n\r\n"))
                break;
        }
        if (length > 0) {
            SSL_write(ssl, answer, sizeof(answer) - 1);
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        close(connection);
    }
}
