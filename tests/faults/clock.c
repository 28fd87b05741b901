/* The wall clock of one process, shifted by what a file says: LD_PRELOAD this, TOCSIN_CLOCK names the file, which holds
 * one int64 of nanoseconds. A wait until a wall-clock time lasts until the shifted clock shows it, as in the kernel: a
 * clock that is set back in the middle prolongs it. Clocks that only count (CLOCK_MONOTONIC) are left alone. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define SLICE (SECOND / 50)

static volatile int64_t none = 0;
static volatile int64_t *shift = &none;

__attribute__((constructor)) static void open_shift(void) {
  const char *path = getenv("TOCSIN_CLOCK");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  if (page != MAP_FAILED) shift = page;
  close(file);
}

static int64_t counted(clockid_t clock) {
  struct timespec now;
  syscall(SYS_clock_gettime, clock, &now);
  return now.tv_sec * SECOND + now.tv_nsec;
}

static int64_t wall(void) { return counted(CLOCK_REALTIME) + *shift; }

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return syscall(SYS_clock_gettime, clock, now);
  int64_t shown = wall();
  now->tv_sec = shown / SECOND;
  now->tv_nsec = shown % SECOND;
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  int64_t shown = wall();
  now->tv_sec = shown / SECOND;
  now->tv_usec = shown % SECOND / 1000;
  return 0;
}

time_t time(time_t *now) {
  time_t shown = wall() / SECOND;
  if (now) *now = shown;
  return shown;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  int64_t end = until->tv_sec * SECOND + until->tv_nsec;
  if (until->tv_sec < 1000000000) /* seconds since the machine started: a condition on the counting clock */
    return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, until);
  for (;;) {
    int64_t left = end - wall();
    if (left <= 0) return ETIMEDOUT;
    int64_t slice = counted(CLOCK_MONOTONIC) + (left < SLICE ? left : SLICE);
    struct timespec then = {slice / SECOND, slice % SECOND};
    int result = pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &then);
    if (result != ETIMEDOUT) return result;
  }
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
  int result = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until);
  return result == 0 ? thrd_success : result == ETIMEDOUT ? thrd_timedout : thrd_error;
}
