/* Handshakes over buffers in memory, several at a time in one thread, each as a job of OpenSSL's
 * asynchronous mode that is paused in the middle of its handshake, and again in the middle of its RSA
 * signature, as by an accelerator's engine: its calls leave the stack that they began on and come back to
 * it after those of the others.
 *
 * jobs CERTIFICATE KEY ROUNDS */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/async.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECTIONS 4

static void pause_job(void)
{
    if (ASYNC_get_current_job() != NULL)
        ASYNC_pause_job();
}

static int choose(SSL *ssl, void *unused)
{
    (void)ssl;
    (void)unused;
    pause_job();
    return 1;
}

static int sign(int length, const unsigned char *from, unsigned char *to, RSA *key, int padding)
{
    int signed_bytes = RSA_meth_get_priv_enc(RSA_PKCS1_OpenSSL())(length, from, to, key, padding);
    pause_job();
    return signed_bytes;
}

/* The key of a file, whose signatures pause. */
static EVP_PKEY *pausing_key(const char *path)
{
    FILE *file = fopen(path, "r");
    EVP_PKEY *read = file == NULL ? NULL : PEM_read_PrivateKey(file, NULL, NULL, NULL);
    RSA *rsa = read == NULL ? NULL : EVP_PKEY_get1_RSA(read);
    RSA_METHOD *method = RSA_meth_dup(RSA_PKCS1_OpenSSL());
    EVP_PKEY *key = EVP_PKEY_new();
    if (rsa == NULL || method == NULL || key == NULL)
        return NULL;
    RSA_meth_set_priv_enc(method, sign);
    RSA_set_method(rsa, method);
    EVP_PKEY_assign_RSA(key, rsa);
    return key;
}

static void carry(SSL *from, SSL *to)
{
    char bytes[16384];
    int count;
    while ((count = BIO_read(SSL_get_wbio(from), bytes, sizeof bytes)) > 0)
        BIO_write(SSL_get_rbio(to), bytes, count);
}

static SSL *connection(SSL_CTX *context)
{
    SSL *ssl = SSL_new(context);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    return ssl;
}

int main(int count, char **arguments)
{
    SSL_CTX *serving = SSL_CTX_new(TLS_server_method());
    SSL_CTX *calling = SSL_CTX_new(TLS_client_method());
    long done = 0, paused = 0;
    if (count != 4 || SSL_CTX_use_certificate_chain_file(serving, arguments[1]) != 1
        || SSL_CTX_use_PrivateKey(serving, pausing_key(arguments[2])) != 1)
        return 2;
    SSL_CTX_set_mode(serving, SSL_MODE_ASYNC);
    SSL_CTX_set_cert_cb(serving, choose, NULL);
    for (int round = 0; round < atoi(arguments[3]); round++) {
        SSL *server[CONNECTIONS], *client[CONNECTIONS];
        int ready[CONNECTIONS] = { 0 }, left = CONNECTIONS;
        for (int i = 0; i < CONNECTIONS; i++) {
            server[i] = connection(serving);
            client[i] = connection(calling);
            SSL_set_accept_state(server[i]);
            SSL_set_connect_state(client[i]);
            SSL_do_handshake(client[i]);
            carry(client[i], server[i]);
        }
        while (left > 0) {
            for (int k = 0; k < CONNECTIONS; k++) {
                /* In another order each time, so that stacks are left and entered every way. */
                int i = round % 2 ? CONNECTIONS - 1 - k : k;
                int result, error;
                if (ready[i])
                    continue;
                result = SSL_do_handshake(server[i]);
                error = SSL_get_error(server[i], result);
                if (result == 1) {
                    ready[i] = 1;
                    left--;
                    done++;
                } else if (error == SSL_ERROR_WANT_ASYNC) {
                    paused++;
                    continue;
                } else if (error != SSL_ERROR_WANT_READ) {
                    ERR_print_errors_fp(stderr);
                    return 3;
                }
                carry(server[i], client[i]);
                SSL_do_handshake(client[i]);
                carry(client[i], server[i]);
            }
        }
        for (int i = 0; i < CONNECTIONS; i++) {
            SSL_free(server[i]);
            SSL_free(client[i]);
        }
    }
    printf("%ld %ld\n", done, paused);
    return 0;
}
