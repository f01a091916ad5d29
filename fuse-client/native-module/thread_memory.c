/* SPDX-License-Identifier: Apache-2.0 */
#include "thread_memory.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

/* What one thread has of the package, and later leaves. */
struct share {
	struct thread_memory *memory;
	void *package_memory;
	struct share *next;
};
struct thread_memory { struct share *unused; };

static pthread_mutex_t lending = PTHREAD_MUTEX_INITIALIZER;
/* Of a thread that has been seen: its share. */
static pthread_key_t share_key;
static pthread_key_t package_key;
/* If it is not, nothing is lent, and the package does as it always did. */
static bool is_package_key_known;

static void on_thread_end(void *data)
{
	struct share *share = data;
	if (!share->package_memory) {
		free(share);
		return;
	}
	pthread_mutex_lock(&lending);
	share->next = share->memory->unused;
	share->memory->unused = share;
	pthread_mutex_unlock(&lending);
}

__attribute__((constructor)) static void make_key(void)
{
	pthread_key_create(&share_key, on_thread_end);
}

struct thread_memory *new_thread_memory(void)
{
	return calloc(1, sizeof(struct thread_memory));
}

void borrow_thread_memory(struct thread_memory *memory)
{
	if (!memory || pthread_getspecific(share_key))
		return;
	pthread_mutex_lock(&lending);
	struct share *share = memory->unused;
	if (share)
		memory->unused = share->next;
	pthread_mutex_unlock(&lending);
	if (share)
		pthread_setspecific(package_key, share->package_memory);
	else if ((share = calloc(1, sizeof *share)))
		share->memory = memory;
	pthread_setspecific(share_key, share);
}

/* Not left for the thread's end: there the package's value may be gone before ours. */
void note_thread_memory(void)
{
	struct share *share = pthread_getspecific(share_key);
	if (share && !share->package_memory && is_package_key_known)
		share->package_memory = pthread_getspecific(package_key);
}

struct thread_keys set_thread_keys(void)
{
	struct thread_keys keys;
	for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++)
		keys.is_set[key] = pthread_getspecific(key) != NULL;
	return keys;
}

void find_package_key(const struct thread_keys *before)
{
	pthread_key_t candidate = 0;
	int count = 0;
	if (is_package_key_known)
		return;
	for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++) {
		if (before->is_set[key] || !pthread_getspecific(key))
			continue;
		candidate = key;
		count++;
	}
	package_key = candidate;
	is_package_key_known = count == 1;
}
