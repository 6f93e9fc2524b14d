/* A file layer for audit files that forgets: it notes up to where each was synced, so that a test can take away the rest
 * after it has killed the process, as a power cut would.
 *
 * In the folder $FORGETFUL_NOTES: for each `*.jsonl` whose name survives, a file of that name with the length that does.
 * A file `fail-sync` there makes the next sync fail. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 1024, NAME = 128, PATH = 1024 };

static char names[FILES][NAME]; /* by descriptor; one thread at a time has audit files open */
static int is_named[FILES];

static int note_path(char *path, const char *name) {
  const char *folder = getenv("FORGETFUL_NOTES");
  return folder && snprintf(path, PATH, "%s/%s", folder, name) < PATH;
}

static void note(int fd, long long length) {
  char path[PATH], text[32];
  if (!note_path(path, names[fd])) return;
  static int (*real)(const char *, int, ...);
  if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
  int file = real(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) abort();
  int size = snprintf(text, sizeof text, "%020lld", length);
  if (pwrite(file, text, size, 0) != size) abort();
  static int (*shut)(int);
  if (!shut) shut = (int (*)(int))dlsym(RTLD_NEXT, "close");
  shut(file);
}

static void opened(int fd, const char *path, int flags) {
  const char *name = strrchr(path, '/');
  name = name ? name + 1 : path;
  size_t length = strlen(name);
  int is_log = length > 6 && length < NAME && !strcmp(name + length - 6, ".jsonl");
  if (fd < 0 || fd >= FILES || !is_log) return;
  strcpy(names[fd], name);
  is_named[fd] = !(flags & O_CREAT);
}

#define OPEN(NAME)                                                                  \
  int NAME(const char *path, int flags, ...) {                                      \
    static int (*real)(const char *, int, ...);                                     \
    if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #NAME);     \
    va_list arguments;                                                              \
    va_start(arguments, flags);                                                     \
    int fd = real(path, flags, va_arg(arguments, mode_t));                          \
    va_end(arguments);                                                              \
    opened(fd, path, flags);                                                        \
    return fd;                                                                      \
  }
OPEN(open)
OPEN(open64)

int close(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "close");
  if (fd >= 0 && fd < FILES) names[fd][0] = 0;
  return real(fd);
}

int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  if (fd < 0 || fd >= FILES || !names[fd][0]) return real(fd);
  char path[PATH];
  struct stat before;
  if (fstat(fd, &before)) return -1;
  usleep(1000); /* time to be killed in */
  if (note_path(path, "fail-sync") && !unlink(path)) {
    errno = EIO;
    return -1;
  }
  if (is_named[fd]) note(fd, before.st_size);
  return 0;
}

int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  if (fd >= 0 && fd < FILES && names[fd][0]) return fdatasync(fd);
  struct stat status;
  if (!fstat(fd, &status) && S_ISDIR(status.st_mode)) {
    /* New names survive from now on. */
    for (int file = 0; file < FILES; file++) {
      if (!names[file][0] || is_named[file]) continue;
      is_named[file] = 1;
      note(file, 0);
    }
  }
  return real(fd);
}
