#ifndef CHECKS_H
#define CHECKS_H

/* All checks against this program's own sockets. Returns the exit code. */
int checks(void);

#endif
