/* Addresses and waiting, shared by the checks, the servers and the clients. */
#ifndef NET_H
#define NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

/* A loopback or wildcard address of either family. */
typedef struct {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } of;
    socklen_t length;
} address;

address loopback(int family, int port);
address wildcard(int family, int port);
int port_of(const address *address);
bool same(const address *left, const address *right);
address local_address(int fd);
address peer_address(int fd);

/* poll(2) for one descriptor: what it is ready for, of `events`; 0 when time is over. */
int wait_for(int fd, int events, int milliseconds);

/* By FIONBIO, which every wasi-libc has. */
void set_nonblocking(int fd, bool on);

/* A listener on loopback, on a free port. */
int listening(int family, int backlog, address *at);

/* A connected pair; false when it could not be made. */
bool connected(int family, int *client, int *server);

/* Everything or failure. */
bool send_all(int fd, const void *data, size_t length);
bool receive_all(int fd, void *data, size_t length);

#endif
