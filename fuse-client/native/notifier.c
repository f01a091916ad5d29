#include "notifier.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Notifications waiting for the thread. One is at most 300 bytes: 5 MiB in all. */
#define MAX_NOTICES 16384
/* Before Linux 5.9 descriptors are closed one by one, up to here. */
#define OLD_KERNEL_DESCRIPTORS 65536

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

struct notice {
  struct notice *next;
  size_t size;
  char bytes[];
};

/* All of it under `mutex`, but what never changes. */
struct notifier {
  int device;
  int wake;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  struct notice *first, *last;
  uint32_t waiting;
  uint32_t done;
  bool thread_ready; /* it has its own device */
  bool thread_runs;
  bool stop;
  bool abandoned;
};

static void free_notifier(struct notifier *notifier) {
  for (struct notice *notice = notifier->first; notice != NULL;) {
    struct notice *next = notice->next;
    free(notice);
    notice = next;
  }
  pthread_mutex_destroy(&notifier->mutex);
  pthread_cond_destroy(&notifier->changed);
  free(notifier);
}

struct notifier *notifier_create(int device, int wake) {
  struct notifier *notifier = calloc(1, sizeof *notifier);
  notifier->device = device;
  notifier->wake = wake;
  pthread_mutex_init(&notifier->mutex, NULL);
  pthread_cond_init(&notifier->changed, NULL);
  return notifier;
}

static void close_between(unsigned int first, unsigned int last) {
  if (first > last || syscall(SYS_close_range, first, last, 0) == 0) return;
  for (unsigned int fd = first; fd <= last && fd < OLD_KERNEL_DESCRIPTORS; fd++) close((int)fd);
}

/* In this thread's table of descriptors, closes all but two. */
static void close_others(int one, int other) {
  unsigned int low = one < other ? one : other, high = one < other ? other : one;
  if (low > 0) close_between(0, low - 1);
  close_between(low + 1, high - 1);
  close_between(high + 1, ~0U);
}

/*
 * The thread's way to the kernel: a second device on the connection, alone with `wake` in a descriptor
 * table of this thread's own. When the process is killed while a notification blocks, the thread cannot
 * end, and what it shares stays open. The requests that it waits for were read from the first device,
 * which it does not share: its last close fails them, and with that the wait is over. Where there can be
 * no second device notifications work all the same; only that end is missing.
 */
static int open_own_device(int device, int wake) {
  if (unshare(CLONE_FILES) < 0) return fcntl(device, F_DUPFD_CLOEXEC, 0);
  uint32_t connection = (uint32_t)device;
  int own = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (own >= 0 && ioctl(own, FUSE_DEV_IOC_CLONE, &connection) < 0) {
    close(own);
    own = -1;
  }
  if (own < 0) own = device;
  close_others(own, wake);
  return own;
}

/* Writes the first notice. Called and left with the mutex held, which is free meanwhile. */
static void write_first(struct notifier *notifier, int device) {
  struct notice *notice = notifier->first;
  notifier->first = notice->next;
  if (notifier->first == NULL) notifier->last = NULL;
  notifier->waiting--;
  pthread_mutex_unlock(&notifier->mutex);
  /* ENOENT: the kernel does not have it. Other errors: the mount is gone. Nothing to do for either. */
  ssize_t ignored = write(device, notice->bytes, notice->size);
  (void)ignored;
  free(notice);
  pthread_mutex_lock(&notifier->mutex);
  notifier->done++;
  if (!notifier->abandoned) eventfd_write(notifier->wake, 1);
}

static void *run(void *data) {
  struct notifier *notifier = data;
  int device = open_own_device(notifier->device, notifier->wake);
  pthread_mutex_lock(&notifier->mutex);
  notifier->thread_ready = true;
  pthread_cond_broadcast(&notifier->changed);
  while (!notifier->stop) {
    if (notifier->first != NULL) write_first(notifier, device);
    else pthread_cond_wait(&notifier->changed, &notifier->mutex);
  }
  notifier->thread_runs = false;
  bool abandoned = notifier->abandoned;
  if (!abandoned) eventfd_write(notifier->wake, 1);
  pthread_mutex_unlock(&notifier->mutex);
  close(device);
  if (abandoned) free_notifier(notifier);
  return NULL;
}

/* Starts the thread, detached and deaf to signals, and waits until it has its device. Returns an errno. */
static int start_thread(struct notifier *notifier) {
  sigset_t all, before;
  pthread_attr_t attributes;
  pthread_t thread;
  sigfillset(&all);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&thread, &attributes, run, notifier);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (error != 0) return error;
  notifier->thread_runs = true;
  while (!notifier->thread_ready) pthread_cond_wait(&notifier->changed, &notifier->mutex);
  return 0;
}

int notifier_send(struct notifier *notifier, const void *bytes, size_t size) {
  struct notice *notice = malloc(sizeof *notice + size);
  if (notice == NULL) return ENOMEM;
  notice->next = NULL;
  notice->size = size;
  memcpy(notice->bytes, bytes, size);

  int error = 0;
  pthread_mutex_lock(&notifier->mutex);
  if (notifier->stop) error = EBADF;
  else if (notifier->waiting >= MAX_NOTICES) error = EAGAIN;
  else if (!notifier->thread_runs) error = start_thread(notifier);
  if (error == 0) {
    if (notifier->last == NULL) notifier->first = notice;
    else notifier->last->next = notice;
    notifier->last = notice;
    notifier->waiting++;
    pthread_cond_broadcast(&notifier->changed);
  }
  pthread_mutex_unlock(&notifier->mutex);
  if (error != 0) free(notice);
  return error;
}

uint32_t notifier_done(struct notifier *notifier) {
  pthread_mutex_lock(&notifier->mutex);
  uint32_t done = notifier->done;
  pthread_mutex_unlock(&notifier->mutex);
  return done;
}

bool notifier_busy(struct notifier *notifier) {
  pthread_mutex_lock(&notifier->mutex);
  bool busy = notifier->thread_runs;
  pthread_mutex_unlock(&notifier->mutex);
  return busy;
}

void notifier_stop(struct notifier *notifier) {
  pthread_mutex_lock(&notifier->mutex);
  notifier->stop = true;
  pthread_cond_broadcast(&notifier->changed);
  pthread_mutex_unlock(&notifier->mutex);
}

void notifier_abandon(struct notifier *notifier) {
  pthread_mutex_lock(&notifier->mutex);
  notifier->stop = true;
  notifier->abandoned = true;
  bool thread_frees = notifier->thread_runs;
  pthread_cond_broadcast(&notifier->changed);
  pthread_mutex_unlock(&notifier->mutex);
  if (!thread_frees) free_notifier(notifier);
}
