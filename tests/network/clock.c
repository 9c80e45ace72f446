/* Preloaded into the agent: its clocks differ from the machine's by what the test has written into a file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Nanoseconds that the monotonic clock and the wall clock are ahead. */
static const volatile int64_t *ahead;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("REAGENT_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *map = mmap(NULL, 2 * sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) ahead = map;
}

static struct timespec later(struct timespec time, int64_t nanos) {
    int64_t second = 1000000000;
    nanos += time.tv_nsec;
    time.tv_sec += nanos / second;
    time.tv_nsec = nanos % second;
    if (time.tv_nsec < 0) time.tv_nsec += second, time.tv_sec -= 1;
    return time;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (result == 0 && ahead && clock == CLOCK_MONOTONIC) *time = later(*time, ahead[0]);
    if (result == 0 && ahead && clock == CLOCK_REALTIME) *time = later(*time, ahead[1]);
    return result;
}

/* Threads wait until a moment of the monotonic clock: the kernel's, not ours. */
long syscall(long number, ...) {
    static long (*real)(long, ...);
    if (!real) real = dlsym(RTLD_NEXT, "syscall");
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(args, long);
    va_end(args);
    struct timespec until;
    int is_wait = number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;
    if (is_wait && ahead && a[3] && !(a[1] & FUTEX_CLOCK_REALTIME)) {
        until = later(*(const struct timespec *)a[3], -ahead[0]);
        a[3] = (long)&until;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Who waits for an answer on a local socket looks at our clock now and then: the kernel measures the wait by its own. */
int setsockopt(int socket, int level, int name, const void *value, socklen_t length) {
    static int (*real)(int, int, int, const void *, socklen_t);
    if (!real) real = dlsym(RTLD_NEXT, "setsockopt");
    static const struct timeval soon = {0, 100000};
    int family = 0;
    socklen_t size = sizeof family;
    if (ahead && level == SOL_SOCKET && name == SO_RCVTIMEO && length == sizeof soon
        && getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 && family == AF_UNIX) {
        const struct timeval *wanted = value;
        if (timerisset(wanted) && timercmp(wanted, &soon, >)) value = &soon;
    }
    return real(socket, level, name, value, length);
}
