/* Loaded before the C library (LD_PRELOAD): counts what a process writes below one directory, and at a chosen
   one of these points kills the process, or lets the disk be full for a while.

   A point is a call that changes what is on the disk, or waits until it is there. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum mode { KILL = 0, TEAR = 1, FULL = 2 };

static char below[PATH_MAX];
static enum mode mode;
static long first, last;
static atomic_long points;
static atomic_int armed;

/* Kill at (KILL) or in the middle of (TEAR) point `from`; or have no space (FULL) from there to point `to`. */
void faults_arm(const char *directory, long from, long to, int what) {
    snprintf(below, sizeof below, "%s/", directory);
    first = from;
    last = to;
    mode = what;
    atomic_store(&points, 0);
    atomic_store(&armed, 1);
}

void faults_disarm(void) { atomic_store(&armed, 0); }

long faults_points(void) { return atomic_load(&points); }

static int is_below(const char *path) { return strncmp(path, below, strlen(below)) == 0; }

static int at_path(int directory, const char *path) {
    char link[64], place[PATH_MAX];
    if (path[0] == '/') return is_below(path);
    snprintf(link, sizeof link, "/proc/self/%s/%d", directory == AT_FDCWD ? "cwd" : "fd", directory);
    if (directory == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    ssize_t length = readlink(link, place, sizeof place - 2);
    if (length < 0) return 0;
    place[length] = '/';
    place[length + 1] = 0;
    return is_below(place);
}

static int at_handle(int handle) {
    char link[64], place[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, place, sizeof place - 2);
    if (length < 0) return 0;
    place[length] = '/'; /* the directory itself may be what is synced */
    place[length + 1] = 0;
    return is_below(place);
}

/* Whether this call is to fail for lack of space; one that is to kill does not come back. */
static int strikes(int takes_space) {
    long now = atomic_fetch_add(&points, 1) + 1;
    if (mode == FULL) return takes_space && now >= first && now < last;
    if (mode == KILL && now == first) kill(getpid(), SIGKILL);
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define COUNT(where, takes_space)                          \
    if (atomic_load(&armed) && (where) && strikes(takes_space)) { \
        errno = ENOSPC;                                    \
        return -1;                                         \
    }

static int tears(void) { return mode == TEAR && atomic_load(&points) == first; }

ssize_t write(int handle, const void *data, size_t length) {
    if (atomic_load(&armed) && at_handle(handle)) {
        COUNT(1, 1)
        if (tears()) {
            REAL(write)(handle, data, length / 2);
            kill(getpid(), SIGKILL);
        }
    }
    return REAL(write)(handle, data, length);
}

ssize_t pwrite(int handle, const void *data, size_t length, off_t offset) {
    if (atomic_load(&armed) && at_handle(handle)) {
        COUNT(1, 1)
        if (tears()) {
            REAL(pwrite)(handle, data, length / 2, offset);
            kill(getpid(), SIGKILL);
        }
    }
    return REAL(pwrite)(handle, data, length, offset);
}

ssize_t pwrite64(int handle, const void *data, size_t length, off64_t offset) {
    return pwrite(handle, data, length, offset);
}

int fsync(int handle) {
    COUNT(at_handle(handle), 1) /* with delayed allocation this is where a full disk may be noticed */
    return REAL(fsync)(handle);
}

int fdatasync(int handle) {
    COUNT(at_handle(handle), 1)
    return REAL(fdatasync)(handle);
}

int ftruncate(int handle, off_t length) {
    COUNT(at_handle(handle), 0)
    return REAL(ftruncate)(handle, length);
}

int ftruncate64(int handle, off64_t length) { return ftruncate(handle, length); }

int rename(const char *from, const char *to) {
    COUNT(at_path(AT_FDCWD, to), 1)
    return REAL(rename)(from, to);
}

int link(const char *from, const char *to) {
    COUNT(at_path(AT_FDCWD, to), 1)
    return REAL(link)(from, to);
}

int linkat(int old, const char *from, int new, const char *to, int flags) {
    COUNT(at_path(new, to), 1)
    return REAL(linkat)(old, from, new, to, flags);
}

int unlink(const char *path) {
    COUNT(at_path(AT_FDCWD, path), 0)
    return REAL(unlink)(path);
}

int unlinkat(int directory, const char *path, int flags) {
    COUNT(at_path(directory, path), 0)
    return REAL(unlinkat)(directory, path, flags);
}

int mkdir(const char *path, mode_t bits) {
    COUNT(at_path(AT_FDCWD, path), 1)
    return REAL(mkdir)(path, bits);
}

int rmdir(const char *path) {
    COUNT(at_path(AT_FDCWD, path), 0)
    return REAL(rmdir)(path);
}

#define OPEN(name)                                                          \
    int name(const char *path, int flags, ...) {                            \
        va_list rest;                                                       \
        va_start(rest, flags);                                              \
        mode_t bits = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                       \
        COUNT((flags & O_CREAT) && access(path, F_OK) != 0 && at_path(AT_FDCWD, path), 1) \
        return REAL(name)(path, flags, bits);                               \
    }

OPEN(open)
OPEN(open64)
