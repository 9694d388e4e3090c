#include "net.h"

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

address wildcard(int family, int port) {
    address address;
    memset(&address, 0, sizeof address);
    if (family == AF_INET) {
        address.of.v4.sin_family = AF_INET;
        address.of.v4.sin_port = htons(port);
        address.length = sizeof address.of.v4;
    } else {
        address.of.v6.sin6_family = AF_INET6;
        address.of.v6.sin6_port = htons(port);
        address.length = sizeof address.of.v6;
    }
    return address;
}

address loopback(int family, int port) {
    address address = wildcard(family, port);
    if (family == AF_INET) {
        address.of.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        address.of.v6.sin6_addr = in6addr_loopback;
    }
    return address;
}

int port_of(const address *address) {
    return ntohs(address->of.any.sa_family == AF_INET ? address->of.v4.sin_port : address->of.v6.sin6_port);
}

bool same(const address *left, const address *right) {
    if (left->of.any.sa_family != right->of.any.sa_family || port_of(left) != port_of(right)) {
        return false;
    }
    if (left->of.any.sa_family == AF_INET) {
        return left->of.v4.sin_addr.s_addr == right->of.v4.sin_addr.s_addr;
    }
    return memcmp(&left->of.v6.sin6_addr, &right->of.v6.sin6_addr, sizeof(struct in6_addr)) == 0;
}

address local_address(int fd) {
    address address = {.length = sizeof address.of};
    if (getsockname(fd, &address.of.any, &address.length) != 0) {
        address.length = 0;
    }
    return address;
}

address peer_address(int fd) {
    address address = {.length = sizeof address.of};
    if (getpeername(fd, &address.of.any, &address.length) != 0) {
        address.length = 0;
    }
    return address;
}

int wait_for(int fd, int events, int milliseconds) {
    struct pollfd entry = {.fd = fd, .events = events};
    return poll(&entry, 1, milliseconds) == 1 ? entry.revents : 0;
}

void set_nonblocking(int fd, bool on) {
    int value = on;
    ioctl(fd, FIONBIO, &value);
}

int listening(int family, int backlog, address *at) {
    int fd = socket(family, SOCK_STREAM, 0);
    *at = loopback(family, 0);
    if (fd < 0 || bind(fd, &at->of.any, at->length) != 0 || listen(fd, backlog) != 0) {
        return -1;
    }
    *at = local_address(fd);
    return fd;
}

bool connected(int family, int *client, int *server) {
    address at;
    int listener = listening(family, 8, &at);
    *client = socket(family, SOCK_STREAM, 0);
    bool held = listener >= 0 && connect(*client, &at.of.any, at.length) == 0;
    *server = held ? accept(listener, NULL, NULL) : -1;
    close(listener);
    return *server >= 0;
}

bool send_all(int fd, const void *data, size_t length) {
    for (size_t sent = 0; sent < length;) {
        ssize_t count = send(fd, (const char *)data + sent, length - sent, 0);
        if (count <= 0) {
            return false;
        }
        sent += count;
    }
    return true;
}

bool receive_all(int fd, void *data, size_t length) {
    for (size_t got = 0; got < length;) {
        ssize_t count = recv(fd, (char *)data + got, length - got, 0);
        if (count <= 0) {
            return false;
        }
        got += count;
    }
    return true;
}
