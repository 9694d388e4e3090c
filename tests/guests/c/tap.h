/* Results in the form of the Test Anything Protocol (https://testanything.org): one line a check. */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>

/* Says whether a check held, with errno where it did not. */
void tap(bool held, const char *file, int line, const char *what);

/* Names the checks that follow. */
void tap_topic(const char *topic);

/* Prints the plan and returns the exit code. */
int tap_done(void);

/* errno is that of the expression: it is cleared before. */
#define OK(expression) \
    do { \
        errno = 0; \
        bool tap_held = (expression); \
        tap(tap_held, __FILE_NAME__, __LINE__, #expression); \
    } while (0)

/* The expression is -1 and errno is `error`. */
#define FAILS(expression, error) OK((expression) == -1 && errno == (error))

#endif
