/* A wall clock that is wrong, for a process that is started with this library preloaded.
 *
 * FLOE_TEST_CLOCK=<hours> shifts it by so much; FLOE_TEST_CLOCK=<hours>~ makes it jump there and back again
 * after every other look. Clocks that only measure time passed are left alone, as a machine's are when somebody sets its clock. */

#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    static atomic_ulong looks;
    const char *hours = getenv("FLOE_TEST_CLOCK");
    if (!hours || (strchr(hours, '~') && atomic_fetch_add(&looks, 1) / 2 % 2)) return 0;
    return atol(hours) * 3600;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int answer = (int)syscall(SYS_clock_gettime, clock, now);
    if (answer == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return answer;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    int answer = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return answer;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
