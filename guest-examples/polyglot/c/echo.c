/* An echo server with BSD sockets and poll(2): echo PORT. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONNECTIONS 250

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return EXIT_FAILURE;
}

/* Sends back what has come. False at the end of the connection. */
static int echo(int connection) {
    static char data[65536];
    ssize_t length = recv(connection, data, sizeof data, 0);
    for (ssize_t sent = 0; sent < length;) {
        ssize_t count = send(connection, data + sent, length - sent, 0);
        if (count < 0) {
            return 0;
        }
        sent += count;
    }
    return length > 0;
}

int main(int count, char **arguments) {
    int port = count > 1 ? atoi(arguments[1]) : 7000;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_ANY),
        .sin_port = htons(port),
    };
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 128) != 0) {
        return fail("listen");
    }
    printf("C listens on port %d\n", port);
    fflush(stdout);

    struct pollfd polled[MAX_CONNECTIONS + 1] = {{.fd = listener}};
    int used = 1;
    for (;;) {
        /* Those for whom there is no room wait in the backlog. */
        polled[0].events = used <= MAX_CONNECTIONS ? POLLIN : 0;
        if (poll(polled, used, -1) < 0) {
            return fail("poll");
        }
        for (int i = used - 1; i > 0; i--) {
            if (polled[i].revents && !echo(polled[i].fd)) {
                close(polled[i].fd);
                polled[i] = polled[--used];
            }
        }
        if (polled[0].revents) {
            int connection = accept(listener, NULL, NULL);
            if (connection < 0) {
                /* WASI has no signals: accept fails when the pod stops. */
                return EXIT_SUCCESS;
            }
            polled[used++] = (struct pollfd){.fd = connection, .events = POLLIN};
        }
    }
}
