/* Ships logs: `ship FILE`. Takes messages from a queue, those of the highest priority first, and appends them to a
 * file. When the pod stops, it empties the queue and ends. */

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "imports.h"

static const char *const severities[] = {"debug", "info", "notice", "warning", "error"};

typedef peapod_ipc_message_queue_message_t message_t;
typedef peapod_ipc_message_queue_errno_t errno_type;

static int ship(FILE *file, message_t *message) {
    unsigned severity = message->priority < 4 ? message->priority : 4;
    int written = fprintf(file, "%s: %.*s\n", severities[severity], (int)message->data.len, message->data.ptr);
    if (written > 0) {
        printf("%s: %.*s\n", severities[severity], (int)message->data.len, message->data.ptr);
        fflush(stdout);
    }
    peapod_ipc_message_queue_message_free(message);
    return fflush(file) == 0 && written > 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: ship FILE\n");
        return 1;
    }
    FILE *file = fopen(argv[1], "a");
    if (!file) {
        perror(argv[1]);
        return 1;
    }
    imports_string_t name;
    imports_string_set(&name, "/log");
    peapod_ipc_message_queue_attributes_t attributes = {.max_messages = 64, .message_size = 256};
    peapod_ipc_message_queue_own_queue_t queue;
    errno_type error;
    if (!peapod_ipc_message_queue_static_queue_open(&name, PEAPOD_IPC_TYPES_ACCESS_READ_ONLY,
                                                    PEAPOD_IPC_TYPES_OPEN_FLAGS_CREATE, &attributes, &queue, &error)) {
        fprintf(stderr, "ship: cannot open the queue: error %d\n", error);
        return 1;
    }
    message_t message;
    /* Without a timeout: fails when the pod stops, and then only once there is nothing left. */
    while (peapod_ipc_message_queue_method_queue_receive(peapod_ipc_message_queue_borrow_queue(queue), NULL, &message,
                                                         &error)) {
        if (!ship(file, &message)) {
            perror(argv[1]);
            return 1;
        }
    }
    peapod_ipc_message_queue_queue_drop_own(queue);
    fclose(file);
    if (error != PEAPOD_IPC_TYPES_ERRNO_ECANCELED) {
        fprintf(stderr, "ship: cannot receive: error %d\n", error);
        return 1;
    }
    return 0;
}
