/*
 * One system call, or a few, on a thread of libuv's pool, seen from JavaScript as a promise.
 *
 * Everything here that can touch a mount goes through this: a call that waits for a file system
 * which this very process serves must never block its event loop.
 */
#ifndef GFS_WORK_H
#define GFS_WORK_H

#include <node_api.h>
#include <stddef.h>

struct work {
  napi_async_work handle;
  napi_deferred deferred;
  /* Memory of JavaScript's that `run` reads or writes, or NULL. */
  napi_ref borrowed;
  /* The errno and the name of the call that failed, and words of its own if it has any. */
  int error;
  const char *syscall;
  char message[512];

  /* On the pool: no N-API calls. */
  void (*run)(struct work *work);
  /* On the loop, when there was no error. NULL resolves with undefined. */
  napi_value (*result)(napi_env env, struct work *work);
  /* Frees what the work owns, itself included. */
  void (*dispose)(struct work *work);
};

/* Starts it and returns the promise; disposes of it when it could not be started. */
napi_value work_start(napi_env env, struct work *work);

/* Remembers a failure, with the errno of now. */
void work_fail(struct work *work, const char *syscall);

/*
 * Copies a Uint8Array with a NUL behind it. Throws a TypeError and returns NULL when it is something
 * else or contains a NUL of its own. The caller frees it.
 */
char *copy_string(napi_env env, napi_value value);

/* Throws a TypeError and returns NULL. */
napi_value throw_type(napi_env env, const char *message);

/* A status that can only come from a bug or a dying environment: carry on is impossible. */
#define MUST(call)                                                                  \
  do {                                                                              \
    if ((call) != napi_ok)                                                          \
      napi_fatal_error(__FILE__, NAPI_AUTO_LENGTH, #call, NAPI_AUTO_LENGTH);        \
  } while (0)

#endif
