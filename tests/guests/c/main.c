/* A guest in C: BSD sockets through wasi-libc.
 *
 *   c checks                      TAP lines, against itself
 *   c serve PORT                  echoes TCP and UDP, many connections at once, until accept fails
 *   c talk tcp|udp HOST PORT      a conversation with such a server, TAP lines
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checks.h"
#include "net.h"
#include "tap.h"

/* Connections of one server. */
#define MAX_CONNECTIONS 250

/* Attempts to connect and milliseconds between them: the server may start later. */
#define ATTEMPTS 2000
#define PAUSE 10

static int fail(const char *what) {
    fprintf(stderr, "c: %s: %s\n", what, strerror(errno));
    return 1;
}

static int serve(int port) {
    static char data[65536];
    struct pollfd polled[MAX_CONNECTIONS + 2];
    address at = wildcard(AF_INET, port);
    int listener = socket(AF_INET, SOCK_STREAM, 0), datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(listener, &at.of.any, at.length) != 0 || listen(listener, 128) != 0) {
        return fail("listen");
    }
    if (bind(datagrams, &at.of.any, at.length) != 0) {
        return fail("bind udp");
    }
    /* The libraries of some toolchains call a datagram socket readable that never received anything. */
    set_nonblocking(datagrams, true);
    printf("listening on %d\n", port);
    fflush(stdout);
    int count = 2;
    polled[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = datagrams, .events = POLLIN};
    for (;;) {
        /* Full: those who want to connect wait in the backlog. */
        polled[0].events = count < MAX_CONNECTIONS + 2 ? POLLIN : 0;
        if (poll(polled, count, -1) < 0) {
            return fail("poll");
        }
        if (polled[0].revents) {
            int connection = accept(listener, NULL, NULL);
            if (connection < 0) {
                printf("accept ended\n");
                return 0;
            }
            polled[count++] = (struct pollfd){.fd = connection, .events = POLLIN};
        }
        if (polled[1].revents) {
            address from = {.length = sizeof from.of};
            ssize_t length = recvfrom(datagrams, data, sizeof data, 0, &from.of.any, &from.length);
            if (length >= 0) {
                sendto(datagrams, data, length, 0, &from.of.any, from.length);
            }
        }
        for (int i = count - 1; i >= 2; i--) {
            if (!polled[i].revents) {
                continue;
            }
            ssize_t length = recv(polled[i].fd, data, sizeof data, 0);
            if (length <= 0 || !send_all(polled[i].fd, data, length)) {
                close(polled[i].fd);
                polled[i] = polled[--count];
            }
        }
    }
}

static bool resolve(const char *host, const char *port, int type, address *at) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = type}, *found;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "c: %s: %s\n", host, gai_strerror(error));
        return false;
    }
    memcpy(&at->of, found->ai_addr, found->ai_addrlen);
    at->length = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static int talk_tcp(const address *at) {
    enum { SIZE = 1 << 20, PIECE = 16384 };
    tap_topic("talk tcp");
    int fd = -1;
    for (int i = 0; i < ATTEMPTS; i++) {
        fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, &at->of.any, at->length) == 0) {
            break;
        }
        close(fd);
        fd = -1;
        usleep(PAUSE * 1000);
    }
    OK(fd >= 0);
    char word[6];
    OK(send_all(fd, "hello", 6) && receive_all(fd, word, 6) && strcmp(word, "hello") == 0);
    address peer = peer_address(fd);
    OK(same(&peer, at));
    /* More than any buffer holds: written and read in turns. */
    static char sent[SIZE], received[SIZE];
    for (int i = 0; i < SIZE; i++) {
        sent[i] = (char)(i * 31 >> 2);
    }
    bool intact = true;
    for (int offset = 0; offset < SIZE; offset += PIECE) {
        intact &= send_all(fd, sent + offset, PIECE) && receive_all(fd, received + offset, PIECE);
    }
    OK(intact && memcmp(sent, received, SIZE) == 0);
    OK(shutdown(fd, SHUT_WR) == 0);
    OK(recv(fd, word, sizeof word, 0) == 0);
    close(fd);
    return tap_done();
}

static int talk_udp(const address *at) {
    tap_topic("talk udp");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    static char data[65536];
    bool answered = false;
    for (int i = 0; i < ATTEMPTS && !answered; i++) {
        sendto(fd, "hello", 5, 0, &at->of.any, at->length);
        answered = wait_for(fd, POLLIN, PAUSE) & POLLIN;
    }
    OK(answered);
    address from = {.length = sizeof from.of};
    OK(recvfrom(fd, data, sizeof data, 0, &from.of.any, &from.length) == 5 && same(&from, at));
    /* The answers to the other attempts. */
    while (wait_for(fd, POLLIN, 50) & POLLIN) {
        recv(fd, data, sizeof data, 0);
    }
    for (int size = 0; size <= 32768; size = size * 2 + 1) {
        memset(data, size & 255, size);
        OK(sendto(fd, data, size, 0, &at->of.any, at->length) == size);
        OK(wait_for(fd, POLLIN, 20000) & POLLIN);
        OK(recv(fd, data, sizeof data, 0) == size);
    }
    close(fd);
    return tap_done();
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count == 2 && strcmp(arguments[1], "checks") == 0) {
        return checks();
    }
    if (count == 3 && strcmp(arguments[1], "serve") == 0) {
        return serve(atoi(arguments[2]));
    }
    if (count == 5 && strcmp(arguments[1], "talk") == 0) {
        bool tcp = strcmp(arguments[2], "tcp") == 0;
        address at;
        if (!resolve(arguments[3], arguments[4], tcp ? SOCK_STREAM : SOCK_DGRAM, &at)) {
            return 1;
        }
        return tcp ? talk_tcp(&at) : talk_udp(&at);
    }
    fprintf(stderr, "usage: c checks | serve PORT | talk tcp|udp HOST PORT\n");
    return 1;
}
