/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libfuse ends a thread when more than ten are idle and starts one when none is. The package gives each
 * new thread memory and a handle on the event loop for ever, under a thread-specific key: some 30,000 of
 * them in a minute of forty programs at work, each looked at in every turn of the loop. So a thread that
 * ends leaves them to the next that starts: there are as many as requests were ever under way at once.
 */
#ifndef GFS_THREAD_MEMORY_H
#define GFS_THREAD_MEMORY_H

#include <limits.h>

/* What the ended threads of one mount have left. */
struct thread_memory;
/* The thread-specific keys that this thread has set. */
struct thread_keys {
	unsigned char is_set[PTHREAD_KEYS_MAX];
};

/* Never freed, because a thread may end after the mount. NULL when out of memory: nothing is lent then. */
struct thread_memory *new_thread_memory(void);

/* To be called before and after the package's operations; of a thread's calls the first ones count. */
void borrow_thread_memory(struct thread_memory *memory);
void note_thread_memory(void);

/* Before and after the package's first operation on a thread: the key that was set between is the package's. */
struct thread_keys set_thread_keys(void);
void find_package_key(const struct thread_keys *before);

#endif
