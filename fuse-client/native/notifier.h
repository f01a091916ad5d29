/*
 * Writes notifications (FUSE_NOTIFY_INVAL_*) to the kernel. Such a write blocks: inside it the kernel
 * takes locks that are held until some request is answered, maybe one that waits for this process. So
 * there is a thread for it, started with the first notification, and a bounded queue.
 */
#ifndef GFS_NOTIFIER_H
#define GFS_NOTIFIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct notifier;

/* `device` is /dev/fuse; `wake` an eventfd that is written to when one is done or the thread has ended. */
struct notifier *notifier_create(int device, int wake);

/* Queues a copy. Returns 0, EAGAIN when the queue is full, or another errno. */
int notifier_send(struct notifier *notifier, const void *bytes, size_t size);

/* How many have been taken by the kernel, modulo 2^32. */
uint32_t notifier_done(struct notifier *notifier);

/* Drops what is queued and has the thread end when the write that it is in, if any, returns. */
void notifier_stop(struct notifier *notifier);

/* The thread has not ended yet. */
bool notifier_busy(struct notifier *notifier);

/* Stops it and lets go of it. The thread uses `wake` no more, and frees itself when it ends. */
void notifier_abandon(struct notifier *notifier);

#endif
