/* BSD sockets as a C program sees them: every check says what Linux does for the same call. Where
 * wasi-libc itself does otherwise, there is no check: this is about the host. */
#include "checks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "net.h"
#include "tap.h"

/* Milliseconds after which something that must happen has not happened. */
#define PATIENCE 20000

#define BIND(fd, at) bind(fd, &(at).of.any, (at).length)
#define CONNECT(fd, at) connect(fd, &(at).of.any, (at).length)

static void tcp_bind(int family) {
    tap_topic("tcp bind");
    int first = socket(family, SOCK_STREAM, 0), second = socket(family, SOCK_STREAM, 0);
    address at = loopback(family, 0), other = loopback(family == AF_INET ? AF_INET6 : AF_INET, 0);
    OK(BIND(first, at) == 0);
    at = local_address(first);
    OK(port_of(&at) != 0);
    FAILS(BIND(first, at), EINVAL);
    OK(listen(first, 4) == 0);
    FAILS(BIND(second, at), EADDRINUSE);
    address any = wildcard(family, port_of(&at));
    FAILS(BIND(second, any), EADDRINUSE);
    OK(BIND(second, other) == -1);
    close(second);

    second = socket(family, SOCK_STREAM, 0);
    address nowhere = loopback(family, 0);
    inet_pton(family, family == AF_INET ? "192.0.2.1" : "2001:db8::1",
              family == AF_INET ? (void *)&nowhere.of.v4.sin_addr : (void *)&nowhere.of.v6.sin6_addr);
    FAILS(BIND(second, nowhere), EADDRNOTAVAIL);
    close(second);

    /* A port is free again as soon as its listener is closed, even with a connection that is not. */
    int client = socket(family, SOCK_STREAM, 0);
    OK(CONNECT(client, at) == 0);
    int server = accept(first, NULL, NULL);
    OK(server >= 0);
    close(server);
    close(first);
    second = socket(family, SOCK_STREAM, 0);
    OK(BIND(second, at) == 0);
    OK(listen(second, 4) == 0);
    close(second);
    close(client);
}

static void tcp_connect(int family) {
    tap_topic("tcp connect");
    address at;
    int listener = listening(family, 4, &at), client = socket(family, SOCK_STREAM, 0);
    OK(listener >= 0);
    OK(CONNECT(client, at) == 0);
    FAILS(CONNECT(client, at), EISCONN);
    address from = {.length = sizeof from.of};
    int server = accept(listener, &from.of.any, &from.length);
    OK(server >= 0);
    address own = local_address(client), peer = peer_address(client);
    OK(same(&own, &from));
    OK(same(&peer, &at));
    own = local_address(server);
    OK(same(&own, &at));
    close(client);
    close(server);

    /* Bound first: the server sees the chosen port. */
    client = socket(family, SOCK_STREAM, 0);
    address chosen = loopback(family, 0);
    OK(BIND(client, chosen) == 0);
    chosen = local_address(client);
    OK(CONNECT(client, at) == 0);
    from.length = sizeof from.of;
    server = accept(listener, &from.of.any, &from.length);
    OK(same(&from, &chosen));
    close(client);
    close(server);
    close(listener);

    client = socket(family, SOCK_STREAM, 0);
    FAILS(CONNECT(client, at), ECONNREFUSED);
    close(client);

    /* Without waiting: writable says that it is over, SO_ERROR how. */
    client = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    errno = 0;
    int result = CONNECT(client, at), reason = errno;
    OK(result == -1 && (reason == EINPROGRESS || reason == ECONNREFUSED));
    if (reason == EINPROGRESS) {
        OK(wait_for(client, POLLOUT, PATIENCE) != 0);
        int error = 0;
        socklen_t length = sizeof error;
        OK(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &length) == 0);
        OK(error == ECONNREFUSED);
    }
    close(client);
}

static void tcp_backlog(int family) {
    tap_topic("tcp backlog");
    enum { COUNT = 16 };
    address at;
    int listener = listening(family, COUNT, &at), clients[COUNT];
    char byte;
    for (int i = 0; i < COUNT; i++) {
        clients[i] = socket(family, SOCK_STREAM, 0);
        byte = (char)i;
        if (CONNECT(clients[i], at) != 0 || send(clients[i], &byte, 1, 0) != 1) {
            OK(!"connect and send before accept");
            return;
        }
    }
    /* In the order in which they came, with what was sent meanwhile. */
    bool in_order = true;
    for (int i = 0; i < COUNT; i++) {
        int server = accept(listener, NULL, NULL);
        in_order &= server >= 0 && recv(server, &byte, 1, 0) == 1 && byte == i;
        close(server);
        close(clients[i]);
    }
    OK(in_order);
    set_nonblocking(listener, true);
    FAILS(accept(listener, NULL, NULL), EAGAIN);
    OK(wait_for(listener, POLLIN, 0) == 0);
    close(listener);
}

static void tcp_half_close(int family) {
    tap_topic("tcp half-close");
    int client, server;
    char data[16] = {0};
    OK(connected(family, &client, &server));
    OK(send_all(client, "question", 8));
    OK(shutdown(client, SHUT_WR) == 0);
    OK(receive_all(server, data, 8) && memcmp(data, "question", 8) == 0);
    OK(recv(server, data, sizeof data, 0) == 0);
    OK(recv(server, data, sizeof data, 0) == 0);
    OK(send(client, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    OK(send_all(server, "answer", 6));
    OK(receive_all(client, data, 6) && memcmp(data, "answer", 6) == 0);
    close(server);
    OK(recv(client, data, sizeof data, 0) == 0);
    close(client);

    /* Data that was sent before the end is not lost with it. */
    OK(connected(family, &client, &server));
    OK(send_all(client, "last words", 10));
    close(client);
    OK(receive_all(server, data, 10) && memcmp(data, "last words", 10) == 0);
    OK(recv(server, data, sizeof data, 0) == 0);
    close(server);

    /* The peer is gone: sending fails soon, and says so. */
    OK(connected(family, &client, &server));
    close(server);
    bool failed = false;
    for (int i = 0; i < 1000 && !failed; i++) {
        errno = 0;
        failed = send(client, "x", 1, MSG_NOSIGNAL) == -1 && (errno == EPIPE || errno == ECONNRESET);
    }
    OK(failed);
    close(client);
}

static void tcp_back_pressure(int family) {
    tap_topic("tcp back-pressure");
    enum { BLOCK = 65536, LIMIT = 64 << 20 };
    static unsigned char block[BLOCK];
    int client, server;
    OK(connected(family, &client, &server));
    set_nonblocking(client, true);
    size_t sent = 0, received = 0;
    bool full = false, intact = true;
    while (!full && sent < LIMIT) {
        for (size_t i = 0; i < BLOCK; i++) {
            block[i] = (unsigned char)((sent + i) * 7 >> 3);
        }
        ssize_t count = send(client, block, BLOCK, 0);
        if (count > 0) {
            sent += count;
        } else {
            full = errno == EAGAIN;
            if (!full) {
                break;
            }
        }
    }
    OK(full);
    OK(wait_for(client, POLLOUT, 0) == 0);
    /* Reading makes room. */
    shutdown(client, SHUT_WR);
    for (ssize_t count; (count = recv(server, block, BLOCK, 0)) > 0; received += count) {
        for (ssize_t i = 0; i < count; i++) {
            intact &= block[i] == (unsigned char)((received + i) * 7 >> 3);
        }
    }
    OK(received == sent);
    OK(intact);
    close(client);
    close(server);
}

static void tcp_options(int family) {
    tap_topic("tcp options");
    int fd = socket(family, SOCK_STREAM, 0), value = 1;
    socklen_t length = sizeof value;
    OK(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value) == 0);
    value = 0;
    OK(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &length) == 0 && value == 1);
    value = 42;
    OK(setsockopt(fd, SOL_TCP, TCP_KEEPIDLE, &value, sizeof value) == 0);
    OK(getsockopt(fd, SOL_TCP, TCP_KEEPIDLE, &value, &length) == 0 && value == 42);
    value = 7;
    OK(setsockopt(fd, SOL_TCP, TCP_KEEPCNT, &value, sizeof value) == 0);
    OK(getsockopt(fd, SOL_TCP, TCP_KEEPCNT, &value, &length) == 0 && value == 7);
    value = 9;
    OK(setsockopt(fd, SOL_TCP, TCP_KEEPINTVL, &value, sizeof value) == 0);
    OK(getsockopt(fd, SOL_TCP, TCP_KEEPINTVL, &value, &length) == 0 && value == 9);
    value = 65536;
    OK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value) == 0);
    OK(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, &length) == 0 && value == 65536);
    value = 65536;
    OK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value) == 0);
    OK(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, &length) == 0 && value == 65536);
    value = 1;
    OK(setsockopt(fd, SOL_TCP, TCP_NODELAY, &value, sizeof value) == 0);
    OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value) == 0);
    OK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length) == 0 && value == SOCK_STREAM);
    OK(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length) == 0 && value == family);
    OK(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value == 0);
    int hops = 17;
    int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    int name = family == AF_INET ? IP_TTL : IPV6_UNICAST_HOPS;
    OK(setsockopt(fd, level, name, &hops, sizeof hops) == 0);
    hops = 0;
    OK(getsockopt(fd, level, name, &hops, &length) == 0 && hops == 17);
    close(fd);
}

static void readiness(int family) {
    tap_topic("poll and select");
    address at;
    char byte;
    int listener = listening(family, 4, &at);
    OK(wait_for(listener, POLLIN, 0) == 0);
    int client = socket(family, SOCK_STREAM, 0);
    OK(CONNECT(client, at) == 0);
    OK(wait_for(listener, POLLIN, PATIENCE) & POLLIN);
    int server = accept(listener, NULL, NULL);
    OK(wait_for(client, POLLIN, 0) == 0);
    OK(wait_for(client, POLLOUT, PATIENCE) & POLLOUT);
    OK(send_all(server, "ab", 2));
    OK(wait_for(client, POLLIN, PATIENCE) & POLLIN);
    OK(recv(client, &byte, 1, 0) == 1 && byte == 'a');
    OK(wait_for(client, POLLIN, 0) & POLLIN);
    OK(recv(client, &byte, 1, 0) == 1 && byte == 'b');
    OK(wait_for(client, POLLIN, 0) == 0);

    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(client, &readable);
    FD_SET(listener, &readable);
    struct timeval soon = {.tv_usec = 1000};
    OK(select(client > listener ? client + 1 : listener + 1, &readable, NULL, NULL, &soon) == 0);
    close(server);
    FD_ZERO(&readable);
    FD_SET(client, &readable);
    struct timeval later = {.tv_sec = PATIENCE / 1000};
    OK(select(client + 1, &readable, NULL, NULL, &later) == 1 && FD_ISSET(client, &readable));
    OK(recv(client, &byte, 1, 0) == 0);
    close(client);
    close(listener);
}

static void udp(int family) {
    tap_topic("udp");
    int one = socket(family, SOCK_DGRAM, 0), two = socket(family, SOCK_DGRAM, 0);
    static char data[70000];
    address at = loopback(family, 0), from = {.length = sizeof from.of};
    OK(BIND(one, at) == 0);
    at = local_address(one);
    OK(port_of(&at) != 0);
    FAILS(BIND(two, at), EADDRINUSE);
    close(two);
    two = socket(family, SOCK_DGRAM, 0);

    /* Boundaries, empty ones too; the sender's address. */
    OK(sendto(two, "first", 5, 0, &at.of.any, at.length) == 5);
    OK(sendto(two, "", 0, 0, &at.of.any, at.length) == 0);
    OK(sendto(two, "third one", 9, 0, &at.of.any, at.length) == 9);
    OK(recvfrom(one, data, sizeof data, 0, &from.of.any, &from.length) == 5 && memcmp(data, "first", 5) == 0);
    address own = local_address(two);
    OK(port_of(&own) == port_of(&from));
    OK(recvfrom(one, data, sizeof data, 0, NULL, NULL) == 0);
    /* What does not fit into the buffer is gone. */
    OK(recvfrom(one, data, 5, 0, NULL, NULL) == 5 && memcmp(data, "third", 5) == 0);
    OK(wait_for(one, POLLIN, 0) == 0);
    set_nonblocking(one, true);
    FAILS(recv(one, data, sizeof data, 0), EAGAIN);
    OK(wait_for(one, POLLIN, 0) == 0);
    OK(sendto(one, "back", 4, 0, &from.of.any, from.length) == 4);
    OK(wait_for(two, POLLIN, PATIENCE) & POLLIN);
    OK(recv(two, data, sizeof data, 0) == 4);

    /* The largest that UDP can carry, and one byte more (RFC 768; RFC 791, RFC 8200). */
    size_t largest = family == AF_INET ? 65507 : 65527;
    memset(data, 'x', sizeof data);
    OK(sendto(two, data, largest, 0, &at.of.any, at.length) == (ssize_t)largest);
    OK(wait_for(one, POLLIN, PATIENCE) & POLLIN);
    OK(recv(one, data, sizeof data, 0) == (ssize_t)largest);
    FAILS(sendto(two, data, largest + 1, 0, &at.of.any, at.length), EMSGSIZE);

    /* Nobody reads: what is too much is dropped, the sender goes on, and the sockets work afterwards. */
    bool sent = true;
    for (int i = 0; i < 20000; i++) {
        ssize_t count = sendto(two, data, 1000, 0, &at.of.any, at.length);
        sent &= count == 1000;
    }
    OK(sent);
    int kept = 0;
    while (wait_for(one, POLLIN, 0) != 0 && recv(one, data, sizeof data, 0) == 1000) {
        kept++;
    }
    printf("# %d datagrams kept\n", kept);
    OK(kept > 0 && kept < 20000);
    OK(sendto(two, "after", 5, 0, &at.of.any, at.length) == 5);
    OK(wait_for(one, POLLIN, PATIENCE) & POLLIN);
    OK(recv(one, data, sizeof data, 0) == 5);
    close(one);
    close(two);
}

static void names(void) {
    tap_topic("names");
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    OK(getaddrinfo("localhost", "80", &hints, &found) == 0);
    bool v4 = false, v6 = false;
    address four = loopback(AF_INET, 80), six = loopback(AF_INET6, 80);
    for (struct addrinfo *entry = found; entry != NULL; entry = entry->ai_next) {
        address address = {.length = entry->ai_addrlen};
        memcpy(&address.of, entry->ai_addr, entry->ai_addrlen);
        v4 |= same(&address, &four);
        v6 |= same(&address, &six);
    }
    OK(v4);
    OK(v6);
    if (found != NULL) {
        freeaddrinfo(found);
    }
    /* Where no name server answers, nobody knows. */
    int error = getaddrinfo("no-such-host.invalid", NULL, &hints, &found);
    OK(error == EAI_NONAME || error == EAI_AGAIN);
    OK(getaddrinfo("192.0.2.7", NULL, &hints, &found) == 0);
    freeaddrinfo(found);
}

int checks(void) {
    const int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2; i++) {
        int family = families[i];
        printf("# IPv%d\n", family == AF_INET ? 4 : 6);
        tcp_bind(family);
        tcp_connect(family);
        tcp_backlog(family);
        tcp_half_close(family);
        tcp_back_pressure(family);
        tcp_options(family);
        readiness(family);
        udp(family);
    }
    names();
    return tap_done();
}
