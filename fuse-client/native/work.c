#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* An Error as Node's own are: message, code, errno (negative) and syscall. */
static napi_value make_error(napi_env env, const struct work *work) {
  char text[640];
  const char *why = work->message[0] != '\0' ? work->message : strerror(work->error);
  snprintf(text, sizeof text, "%s: %s", work->syscall, why);
  napi_value code, message, error, number, syscall;
  MUST(napi_create_string_utf8(env, uv_err_name(-work->error), NAPI_AUTO_LENGTH, &code));
  MUST(napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message));
  MUST(napi_create_error(env, code, message, &error));
  MUST(napi_create_int32(env, -work->error, &number));
  MUST(napi_create_string_utf8(env, work->syscall, NAPI_AUTO_LENGTH, &syscall));
  MUST(napi_set_named_property(env, error, "errno", number));
  MUST(napi_set_named_property(env, error, "syscall", syscall));
  return error;
}

static void execute(napi_env env, void *data) {
  struct work *work = data;
  work->run(work);
}

static void complete(napi_env env, napi_status status, void *data) {
  struct work *work = data;
  if (status == napi_cancelled) {
    work->error = ECANCELED;
    work->syscall = "cancelled";
  }
  if (work->error != 0) {
    napi_reject_deferred(env, work->deferred, make_error(env, work));
  } else {
    napi_value value;
    if (work->result != NULL) value = work->result(env, work);
    else MUST(napi_get_undefined(env, &value));
    napi_resolve_deferred(env, work->deferred, value);
  }
  napi_delete_async_work(env, work->handle);
  if (work->borrowed != NULL) napi_delete_reference(env, work->borrowed);
  work->dispose(work);
}

napi_value work_start(napi_env env, struct work *work) {
  napi_value name, promise;
  MUST(napi_create_string_utf8(env, "gfs.syscall", NAPI_AUTO_LENGTH, &name));
  MUST(napi_create_promise(env, &work->deferred, &promise));
  MUST(napi_create_async_work(env, NULL, name, execute, complete, work, &work->handle));
  MUST(napi_queue_async_work(env, work->handle));
  return promise;
}

void work_fail(struct work *work, const char *syscall) {
  work->error = errno;
  work->syscall = syscall;
}

napi_value throw_type(napi_env env, const char *message) {
  napi_throw_type_error(env, NULL, message);
  return NULL;
}

char *copy_string(napi_env env, napi_value value) {
  napi_typedarray_type type;
  size_t length;
  void *bytes;
  napi_status status = napi_get_typedarray_info(env, value, &type, &length, &bytes, NULL, NULL);
  if (status != napi_ok || type != napi_uint8_array) {
    throw_type(env, "a Uint8Array is wanted");
    return NULL;
  }
  if (length > 0 && memchr(bytes, '\0', length) != NULL) {
    throw_type(env, "a string of bytes may not contain a zero");
    return NULL;
  }
  char *copy = malloc(length + 1);
  if (copy == NULL) napi_fatal_error(__FILE__, NAPI_AUTO_LENGTH, "out of memory", NAPI_AUTO_LENGTH);
  if (length > 0) memcpy(copy, bytes, length);
  copy[length] = '\0';
  return copy;
}
