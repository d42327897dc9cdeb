/* Faults of a disk, for the files whose path contains FAULT_PATH: preloaded, so without root.
 *
 * FAULT_READ, FAULT_WRITE: what happens to every FAULT_EVERY-th call from number FAULT_FROM on (both
 * 1 by default): the number of an error, "short" (a third of the bytes, at least one), "slow" (5 ms),
 * or "interrupt" (EINTR, but never twice in a row). An error of reading is that of every
 * FAULT_EVERY-th sector, of 512 bytes, from byte FAULT_FROM of the file on, however often it is read.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long calls[2];
static _Thread_local int was_interrupted;

static int is_meant(int fd) {
    const char *wanted = getenv("FAULT_PATH");
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (!wanted || length < 0) return 0;
    path[length] = 0;
    return strstr(path, wanted) != NULL;
}

static long number(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value ? atol(value) : otherwise;
}

/* Returns an error number, -1 for "as usual", -2 for "short". */
static int fault(int is_write, off64_t at, size_t count) {
    const char *kind = getenv(is_write ? "FAULT_WRITE" : "FAULT_READ");
    if (!kind) return -1;
    if (!is_write && atoi(kind)) {
        long from = number("FAULT_FROM", 1), every = number("FAULT_EVERY", 1);
        for (off64_t sector = at / 512; sector * 512 < at + (off64_t)count; sector++)
            if (sector * 512 >= from && sector % every == 0) return atoi(kind);
        return -1;
    }
    long call = atomic_fetch_add(&calls[is_write], 1) + 1, from = number("FAULT_FROM", 1);
    if (call < from || (call - from) % number("FAULT_EVERY", 1)) return -1;
    if (!strcmp(kind, "short")) return -2;
    if (!strcmp(kind, "slow")) {
        struct timespec time = {0, 5000000};
        nanosleep(&time, NULL);
        return -1;
    }
    if (!strcmp(kind, "interrupt")) {
        was_interrupted = !was_interrupted;
        return was_interrupted ? EINTR : -1;
    }
    return atoi(kind);
}

#define REAL(type, name) \
    static type real; \
    if (!real) real = (type)dlsym(RTLD_NEXT, #name);

#define PLAIN(is_write, place, buffer, ...) \
    int found = fd > 2 && is_meant(fd) ? fault(is_write, place, count) : -1; \
    if (found >= 0) { errno = found; return -1; } \
    if (found == -2 && count > 1) count = (count + 2) / 3; \
    return real(fd, buffer, count, ##__VA_ARGS__);

typedef ssize_t (*read_type)(int, void *, size_t);
typedef ssize_t (*write_type)(int, const void *, size_t);
typedef ssize_t (*pread_type)(int, void *, size_t, off64_t);
typedef ssize_t (*pwrite_type)(int, const void *, size_t, off64_t);
typedef ssize_t (*preadv_type)(int, const struct iovec *, int, off64_t);
typedef long (*syscall_type)(long, ...);

ssize_t read(int fd, void *data, size_t count) { REAL(read_type, read) PLAIN(0, 0, data) }
ssize_t write(int fd, const void *data, size_t count) {
    REAL(write_type, write) PLAIN(1, 0, data)
}
ssize_t pread(int fd, void *data, size_t count, off_t at) {
    REAL(pread_type, pread64) PLAIN(0, at, data, at)
}
ssize_t pread64(int fd, void *data, size_t count, off64_t at) {
    REAL(pread_type, pread64) PLAIN(0, at, data, at)
}
ssize_t pwrite(int fd, const void *data, size_t count, off_t at) {
    REAL(pwrite_type, pwrite64) PLAIN(1, at, data, at)
}
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at) {
    REAL(pwrite_type, pwrite64) PLAIN(1, at, data, at)
}

static ssize_t vector(int fd, const struct iovec *parts, int count, off64_t at) {
    REAL(preadv_type, preadv64)
    size_t whole = 0;
    for (int i = 0; i < count; i++) whole += parts[i].iov_len;
    int found = is_meant(fd) ? fault(0, at, whole) : -1;
    if (found >= 0) { errno = found; return -1; }
    if (found == -2) {
        struct iovec first = parts[0];
        if (first.iov_len > 1) first.iov_len = (first.iov_len + 2) / 3;
        return real(fd, &first, 1, at);
    }
    return real(fd, parts, count, at);
}
ssize_t preadv(int fd, const struct iovec *parts, int count, off_t at) {
    return vector(fd, parts, count, at);
}
ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at) {
    return vector(fd, parts, count, at);
}

/* What Python calls, and in older versions of glibc the same. */
ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) {
    (void)flags;
    return vector(fd, parts, count, at);
}
ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    return preadv64v2(fd, parts, count, at, flags);
}

struct event { uint64_t data, request; int64_t result, more; };
struct request { uint64_t data; uint32_t key, flags; uint16_t opcode; int16_t priority; uint32_t fd;
                 uint64_t address, size; int64_t offset; };

long syscall(long call, ...) {
    REAL(syscall_type, syscall)
    long a[6];
    va_list list;
    va_start(list, call);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    long result = real(call, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (call == SYS_io_getevents && result > 0) {
        struct event *events = (struct event *)a[3];
        for (long i = 0; i < result; i++) {
            struct request *asked = (struct request *)events[i].request;
            int found = is_meant(asked->fd) ? fault(0, asked->offset, asked->size) : -1;
            if (found >= 0) events[i].result = -found;
            if (found == -2 && events[i].result > 1) events[i].result = (events[i].result + 2) / 3;
        }
    }
    return result;
}
