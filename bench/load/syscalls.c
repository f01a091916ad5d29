/*
 * One system call over and over, for as long as told: what a FUSE binding costs a request.
 *
 *   syscalls OPERATION DIRECTORY SECONDS
 *
 * Prints operations a second; for `write` and `read` MB a second.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (1 << 20)
#define FILE_BYTES (64 << 20)
#define PAGE 4096

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void must(int good, const char *what) {
  if (good) return;
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "syscalls OPERATION DIRECTORY SECONDS\n");
    return 2;
  }
  const char *operation = argv[1];
  double seconds = atof(argv[3]), start, end;
  char path[4096];
  snprintf(path, sizeof path, "%s/file", argv[2]);
  char *buffer;
  must(posix_memalign((void **)&buffer, PAGE, BLOCK) == 0, "memory");
  memset(buffer, 'x', BLOCK);

  int direct = strcmp(operation, "randread") == 0 ? O_DIRECT : 0;
  int fd = open(path, O_RDWR | O_CREAT, 0644);
  must(fd >= 0, "open");
  for (off_t at = 0; at < FILE_BYTES; at += BLOCK) must(pwrite(fd, buffer, BLOCK, at) == BLOCK, "write");
  close(fd);
  must((fd = open(path, O_RDWR | direct)) >= 0, "open");

  uint64_t count = 0, random = 88172645463325252ull, unit = 1;
  struct stat st;
  start = now();
  for (end = start + seconds; count % 64 != 0 || now() < end; count++) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    off_t block = (off_t)(count % (FILE_BYTES / BLOCK)) * BLOCK;
    if (strcmp(operation, "getattr") == 0) {
      must(fstat(fd, &st) == 0, "fstat");
    } else if (strcmp(operation, "create") == 0) {
      snprintf(path, sizeof path, "%s/new%d", argv[2], (int)(count % 1000));
      int made = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
      must(made >= 0 && close(made) == 0 && unlink(path) == 0, "create");
    } else if (direct) {
      off_t at = (off_t)(random % (FILE_BYTES / PAGE)) * PAGE;
      must(pread(fd, buffer, PAGE, at) == PAGE, "read");
    } else if (strcmp(operation, "write") == 0) {
      must(pwrite(fd, buffer, BLOCK, block) == BLOCK, "write");
      unit = BLOCK;
    } else if (strcmp(operation, "read") == 0) {
      if (block == 0) must(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0, "fadvise");
      must(pread(fd, buffer, BLOCK, block) == BLOCK, "read");
      unit = BLOCK;
    } else {
      fprintf(stderr, "no such operation\n");
      return 2;
    }
  }
  double rate = count * unit / (now() - start);
  printf("%.0f\n", unit == 1 ? rate : rate / 1e6);
  return 0;
}
