/* What Debian's libfaketime leaves out: time limits of futexes, by which Rust's standard library waits.
 *
 * Loaded before libfaketime. A limit on a clock that runs N times as fast is made one of the kernel's clock; without
 * that, it would lie hours ahead. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ARGUMENTS = 6, TIMEOUT = 3 };

static long (*kernel)(long, ...);
static long speed = 1;

/* The speed is in `FAKETIME`, as in "+0 x20". */
__attribute__((constructor)) static void begin(void) {
  kernel = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  const char *fake = getenv("FAKETIME");
  const char *factor = fake ? strrchr(fake, 'x') : NULL;
  if (factor && atol(factor + 1) > 0) speed = atol(factor + 1);
}

static long long nanoseconds(const struct timespec *time) {
  return time->tv_sec * 1000000000LL + time->tv_nsec;
}

/* FUTEX_WAIT has a duration, FUTEX_WAIT_BITSET a point in time. */
static struct timespec real_limit(const struct timespec *faked, int is_point, clockid_t clock) {
  long long left = nanoseconds(faked);
  struct timespec now;
  if (is_point) {
    clock_gettime(clock, &now); /* libfaketime's */
    left -= nanoseconds(&now);
  }
  left = left > 0 ? left / speed : 0;
  if (is_point) {
    kernel(SYS_clock_gettime, clock, &now);
    left += nanoseconds(&now);
  }
  return (struct timespec){left / 1000000000LL, left % 1000000000LL};
}

long syscall(long number, ...) {
  long argument[ARGUMENTS];
  va_list all;
  va_start(all, number);
  for (int i = 0; i < ARGUMENTS; i++) argument[i] = va_arg(all, long);
  va_end(all);

  if (!kernel) begin();
  struct timespec limit;
  int command = (int)argument[1] & FUTEX_CMD_MASK;
  if (number == SYS_futex && argument[TIMEOUT] && (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET)) {
    clockid_t clock = argument[1] & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    limit = real_limit((const struct timespec *)argument[TIMEOUT], command == FUTEX_WAIT_BITSET, clock);
    argument[TIMEOUT] = (long)&limit;
  }
  return kernel(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}
