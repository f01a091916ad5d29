/* System calls that Node does not have: ioctl(2), getxattr(2) and setxattr(2), for the command line. */
#include "syscalls.h"

#include <errno.h>
#include <linux/ioctl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include "work.h"

/* Linux's XATTR_SIZE_MAX: no value is longer, so one call always gets it whole. */
#define MAX_VALUE_BYTES 65536

struct ioctl_work {
  struct work base;
  int fd;
  unsigned int command;
  void *argument;
  int result;
};

static void run_ioctl(struct work *base) {
  struct ioctl_work *work = (struct ioctl_work *)base;
  work->result = ioctl(work->fd, work->command, work->argument);
  if (work->result < 0) work_fail(base, "ioctl");
}

static napi_value ioctl_result(napi_env env, struct work *base) {
  napi_value value;
  MUST(napi_create_int32(env, ((struct ioctl_work *)base)->result, &value));
  return value;
}

static void free_work(struct work *base) { free(base); }

/* ioctl(fd, command, buffer) -> Promise<result>; the kernel reads and fills the buffer in place. */
napi_value js_ioctl(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3];
  int32_t fd;
  uint32_t command;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  if (argc < 3 || napi_get_value_int32(env, argv[0], &fd) != napi_ok ||
      napi_get_value_uint32(env, argv[1], &command) != napi_ok)
    return throw_type(env, "ioctl(fd, command, buffer)");
  napi_typedarray_type type;
  size_t length;
  void *bytes;
  if (napi_get_typedarray_info(env, argv[2], &type, &length, &bytes, NULL, NULL) != napi_ok ||
      type != napi_uint8_array)
    return throw_type(env, "ioctl: the buffer must be a Uint8Array");
  /* The command itself says how much the kernel copies. */
  if (length < _IOC_SIZE(command)) return throw_type(env, "ioctl: the buffer is smaller than the command says");

  struct ioctl_work *work = calloc(1, sizeof *work);
  work->base.run = run_ioctl;
  work->base.result = ioctl_result;
  work->base.dispose = free_work;
  work->fd = fd;
  work->command = command;
  work->argument = bytes;
  MUST(napi_create_reference(env, argv[2], 1, &work->base.borrowed));
  return work_start(env, &work->base);
}

struct xattr_work {
  struct work base;
  char *path;
  char *name;
  void *value;
  ssize_t length;
  int flags;
};

static void run_getxattr(struct work *base) {
  struct xattr_work *work = (struct xattr_work *)base;
  work->value = malloc(MAX_VALUE_BYTES);
  work->length = getxattr(work->path, work->name, work->value, MAX_VALUE_BYTES);
  if (work->length < 0) work_fail(base, "getxattr");
}

static void run_setxattr(struct work *base) {
  struct xattr_work *work = (struct xattr_work *)base;
  if (setxattr(work->path, work->name, work->value, work->length, work->flags) < 0)
    work_fail(base, "setxattr");
}

static napi_value xattr_value(napi_env env, struct work *base) {
  struct xattr_work *work = (struct xattr_work *)base;
  napi_value value;
  MUST(napi_create_buffer_copy(env, work->length, work->value, NULL, &value));
  return value;
}

static void free_xattr(struct work *base) {
  struct xattr_work *work = (struct xattr_work *)base;
  free(work->path);
  free(work->name);
  free(work->value);
  free(work);
}

/* Path and name, the first two arguments of both calls. NULL when it has thrown. */
static struct xattr_work *xattr_work(napi_env env, const napi_value *argv) {
  struct xattr_work *work = calloc(1, sizeof *work);
  work->base.dispose = free_xattr;
  work->path = copy_string(env, argv[0]);
  if (work->path != NULL) work->name = copy_string(env, argv[1]);
  if (work->name != NULL) return work;
  free_xattr(&work->base);
  return NULL;
}

/* getxattr(path, name) -> Promise<Buffer> */
napi_value js_getxattr(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  struct xattr_work *work = xattr_work(env, argv);
  if (work == NULL) return NULL;
  work->base.run = run_getxattr;
  work->base.result = xattr_value;
  return work_start(env, &work->base);
}

/* setxattr(path, name, value, flags) -> Promise<void> */
napi_value js_setxattr(napi_env env, napi_callback_info info) {
  size_t argc = 4, length;
  napi_value argv[4];
  napi_typedarray_type type;
  void *bytes;
  int32_t flags;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  if (argc < 4 || napi_get_value_int32(env, argv[3], &flags) != napi_ok ||
      napi_get_typedarray_info(env, argv[2], &type, &length, &bytes, NULL, NULL) != napi_ok ||
      type != napi_uint8_array)
    return throw_type(env, "setxattr(path, name, value, flags)");
  struct xattr_work *work = xattr_work(env, argv);
  if (work == NULL) return NULL;
  work->value = malloc(length > 0 ? length : 1);
  if (length > 0) memcpy(work->value, bytes, length);
  work->length = length;
  work->flags = flags;
  work->base.run = run_setxattr;
  return work_start(env, &work->base);
}
