#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int checks, failures;
static const char *topic = "";

void tap_topic(const char *name) {
    topic = name;
}

void tap(bool held, const char *file, int line, const char *what) {
    int error = errno;
    checks++;
    if (held) {
        printf("ok %d - %s: %s\n", checks, topic, what);
        return;
    }
    failures++;
    printf("not ok %d - %s: %s\n# %s:%d: errno %d, %s\n", checks, topic, what, file, line, error,
           strerror(error));
}

int tap_done(void) {
    printf("1..%d\n# %d failed\n", checks, failures);
    return failures != 0;
}
