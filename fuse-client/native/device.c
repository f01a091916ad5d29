/*
 * /dev/fuse on the event loop.
 *
 * Reading: uv_poll tells that there are requests; they are read into slots of a buffer that
 * JavaScript owns, and handed over a batch at a time with one call. The slots are reused when that
 * call returns, its microtasks included.
 *
 * Replies: one writev(2) each, made at once by the loop's thread. It never blocks: the kernel copies.
 *
 * Notifications do block: see notifier.h. JavaScript hears how many are done.
 *
 * The end: after close() the notifier finishes the write that it is in, which may need requests to be
 * answered still; so reading goes on until it has. Only then are the handles and the descriptor closed.
 * When the environment is torn down first there is nobody to answer: everything is closed at once, which
 * ends the requests, and the notifier goes by itself.
 */
#include "device.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

#include "notifier.h"
#include "work.h"

/* Batches handled before the loop's other work gets its turn. */
#define MAX_BATCHES_PER_TURN 8
/* Most parts of one reply: Linux's UIO_MAXIOV. */
#define MAX_PARTS 1024
#define PARTS_ON_STACK 64

struct device {
  /* Whoever may still look at this memory: JavaScript's functions, and the uv handles. */
  atomic_int references;
  /* /dev/fuse, or -1 once it is closed. */
  int fd;
  struct notifier *notifier;

  napi_env env;
  napi_async_context context;
  napi_async_cleanup_hook_handle cleanup;
  napi_ref receiver, on_requests, on_notified, on_end, on_closed;

  /* Slots for requests, their lengths, and where JavaScript puts a reply's head. */
  napi_ref slots_ref, lengths_ref, reply_ref;
  char *slots;
  size_t slot_size;
  uint32_t slot_count;
  uint32_t *lengths;
  char *reply;
  size_t reply_size;

  uv_poll_t poll;
  /* Wakes the loop for the notifier. Not a uv_async_t: that writes to a descriptor which is libuv's own. */
  uv_poll_t notified_poll;
  int notified_fd;
  int open_handles;
  bool ended;   /* the kernel closed the connection; JavaScript was told */
  bool closing; /* close() was called */
  bool torn_down;
};

static void release(struct device *device) {
  if (atomic_fetch_sub(&device->references, 1) == 1) free(device);
}

/* Calls a JavaScript function with one number and runs the microtasks that it leaves. */
static void call(struct device *device, napi_ref callback, int32_t number) {
  napi_handle_scope scope;
  napi_value function, receiver, argument, exception;
  if (device->torn_down) return;
  MUST(napi_open_handle_scope(device->env, &scope));
  MUST(napi_get_reference_value(device->env, callback, &function));
  MUST(napi_get_reference_value(device->env, device->receiver, &receiver));
  MUST(napi_create_int32(device->env, number, &argument));
  napi_status status =
      napi_make_callback(device->env, device->context, receiver, function, 1, &argument, NULL);
  if (status == napi_pending_exception) {
    MUST(napi_get_and_clear_last_exception(device->env, &exception));
    napi_fatal_exception(device->env, exception);
  }
  napi_close_handle_scope(device->env, scope);
}

/* ---- The end ---- */

static void forget_javascript(struct device *device) {
  napi_ref references[] = {device->receiver,  device->on_requests, device->on_notified, device->on_end,
                           device->on_closed, device->slots_ref,   device->lengths_ref, device->reply_ref};
  for (size_t i = 0; i < sizeof references / sizeof references[0]; i++)
    if (references[i] != NULL) napi_delete_reference(device->env, references[i]);
  if (device->context != NULL) napi_async_destroy(device->env, device->context);
}

static void on_handle_closed(uv_handle_t *handle) {
  struct device *device = handle->data;
  if (--device->open_handles > 0) return;
  if (!device->torn_down) {
    call(device, device->on_closed, 0);
    forget_javascript(device);
  }
  napi_remove_async_cleanup_hook(device->cleanup);
  release(device);
}

static void close_poll(uv_poll_t *poll) {
  uv_poll_stop(poll);
  uv_close((uv_handle_t *)poll, on_handle_closed);
}

static void shut(struct device *device) {
  if (device->fd < 0) return;
  notifier_abandon(device->notifier);
  close_poll(&device->poll);
  close_poll(&device->notified_poll);
  close(device->fd);
  close(device->notified_fd);
  device->fd = -1;
}

static void shut_when_idle(struct device *device) {
  /* Busy: the process must live to hear the notifier's last word. */
  if (notifier_busy(device->notifier)) uv_ref((uv_handle_t *)&device->notified_poll);
  else shut(device);
}

static void on_environment_end(napi_async_cleanup_hook_handle handle, void *data) {
  struct device *device = data;
  device->torn_down = true;
  shut(device);
}

/* close(): JavaScript hears onClosed, maybe after some more requests that it should refuse. */
static napi_value js_close_device(napi_env env, napi_callback_info info) {
  struct device *device;
  MUST(napi_get_cb_info(env, info, NULL, NULL, NULL, (void **)&device));
  if (device->closing || device->fd < 0) return NULL;
  device->closing = true;
  notifier_stop(device->notifier);
  shut_when_idle(device);
  return NULL;
}

/* ---- Requests ---- */

/* Reads requests into the slots. Returns their number; `*error` is set when no more can be read now. */
static uint32_t read_batch(struct device *device, int *error) {
  uint32_t count = 0;
  while (count < device->slot_count) {
    ssize_t size = read(device->fd, device->slots + count * device->slot_size, device->slot_size);
    if (size >= 0) {
      device->lengths[count++] = size;
    } else if (errno != EINTR && errno != ENOENT) {
      /* ENOENT: the request was aborted between the kernel's queue and us. Take the next. */
      *error = errno;
      break;
    }
  }
  return count;
}

static void on_readable(uv_poll_t *poll, int status, int events) {
  struct device *device = poll->data;
  int error = 0;
  for (int batch = 0; batch < MAX_BATCHES_PER_TURN && error == 0; batch++) {
    uint32_t count = read_batch(device, &error);
    if (count > 0) call(device, device->on_requests, (int32_t)count);
    if (device->fd < 0) return;
  }
  if (error == 0 || error == EAGAIN || device->ended) return;
  /* ENODEV: unmounted. ECONNABORTED: aborted. Polling on would only spin. */
  device->ended = true;
  uv_poll_stop(&device->poll);
  call(device, device->on_end, error);
}

static void on_notified(uv_poll_t *poll, int status, int events) {
  struct device *device = poll->data;
  eventfd_t wakes;
  eventfd_read(device->notified_fd, &wakes);
  call(device, device->on_notified, (int32_t)notifier_done(device->notifier));
  if (device->closing) shut_when_idle(device);
}

/* ---- What JavaScript calls ---- */

static napi_value negative_errno(napi_env env, int error) {
  napi_value value;
  MUST(napi_create_int32(env, -error, &value));
  return value;
}

/* reply(length) -> 0 or -errno: sends that much of the reply buffer. */
static napi_value js_reply(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1];
  struct device *device;
  uint32_t length;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, (void **)&device));
  if (napi_get_value_uint32(env, argv[0], &length) != napi_ok || length > device->reply_size)
    return throw_type(env, "reply(length)");
  if (device->fd < 0) return negative_errno(env, EBADF);
  return negative_errno(env, write(device->fd, device->reply, length) < 0 ? errno : 0);
}

/* replyWith(length, buffers) -> 0 or -errno: the same with further buffers behind, uncopied. */
static napi_value js_reply_with(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  struct device *device;
  uint32_t length, count;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, (void **)&device));
  if (napi_get_value_uint32(env, argv[0], &length) != napi_ok || length > device->reply_size ||
      napi_get_array_length(env, argv[1], &count) != napi_ok || count >= MAX_PARTS)
    return throw_type(env, "replyWith(length, buffers)");
  if (device->fd < 0) return negative_errno(env, EBADF);

  struct iovec some[PARTS_ON_STACK];
  struct iovec *parts = count < PARTS_ON_STACK ? some : malloc((count + 1) * sizeof *parts);
  parts[0] = (struct iovec){device->reply, length};
  bool valid = true;
  for (uint32_t i = 0; i < count && valid; i++) {
    napi_value buffer;
    napi_typedarray_type type;
    struct iovec *part = &parts[i + 1];
    valid = napi_get_element(env, argv[1], i, &buffer) == napi_ok &&
            napi_get_typedarray_info(env, buffer, &type, &part->iov_len, &part->iov_base, NULL, NULL) == napi_ok &&
            type == napi_uint8_array;
  }
  int error = valid && writev(device->fd, parts, (int)count + 1) < 0 ? errno : 0;
  if (parts != some) free(parts);
  return valid ? negative_errno(env, error) : throw_type(env, "replyWith: the buffers must be Uint8Arrays");
}

/* notify(message) -> 0, or -EAGAIN when the queue is full, or -errno */
static napi_value js_notify(napi_env env, napi_callback_info info) {
  size_t argc = 1, size;
  napi_value argv[1];
  napi_typedarray_type type;
  void *bytes;
  struct device *device;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, (void **)&device));
  if (napi_get_typedarray_info(env, argv[0], &type, &size, &bytes, NULL, NULL) != napi_ok ||
      type != napi_uint8_array)
    return throw_type(env, "notify(message)");
  return negative_errno(env, device->fd < 0 ? EBADF : notifier_send(device->notifier, bytes, size));
}

/* ---- The beginning ---- */

static void release_function(napi_env env, void *data, void *hint) { release(data); }

static void add_function(napi_env env, napi_value object, const char *name, napi_callback function,
                         struct device *device) {
  napi_value value;
  MUST(napi_create_function(env, name, NAPI_AUTO_LENGTH, function, device, &value));
  atomic_fetch_add(&device->references, 1);
  MUST(napi_add_finalizer(env, value, device, release_function, NULL, NULL));
  MUST(napi_set_named_property(env, object, name, value));
}

/* A typed array of the wanted type that stays where it is as long as the reference lives. */
static bool borrow(napi_env env, napi_value value, napi_typedarray_type wanted, napi_ref *reference, void *bytes,
                   size_t *length) {
  napi_typedarray_type type;
  return napi_get_typedarray_info(env, value, &type, length, bytes, NULL, NULL) == napi_ok && type == wanted &&
         napi_create_reference(env, value, 1, reference) == napi_ok;
}

static bool keep_function(napi_env env, napi_value object, const char *name, napi_ref *reference) {
  napi_value function;
  napi_valuetype type;
  return napi_get_named_property(env, object, name, &function) == napi_ok &&
         napi_typeof(env, function, &type) == napi_ok && type == napi_function &&
         napi_create_reference(env, function, 1, reference) == napi_ok;
}

/* Fails, before anything has been started, when the descriptor is none that can be polled. */
static int start_polling(struct device *device) {
  uv_loop_t *loop;
  MUST(napi_get_uv_event_loop(device->env, &loop));
  device->notified_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (device->notified_fd < 0) return -errno;
  int error = uv_poll_init(loop, &device->poll, device->fd);
  if (error != 0) {
    close(device->notified_fd);
    return error;
  }
  if (uv_poll_init(loop, &device->notified_poll, device->notified_fd) != 0) abort();
  /* The first keeps the process alive while it is mounted; the second need not. */
  uv_unref((uv_handle_t *)&device->notified_poll);
  device->poll.data = device->notified_poll.data = device;
  device->open_handles = 2;
  uv_poll_start(&device->notified_poll, UV_READABLE, on_notified);
  uv_poll_start(&device->poll, UV_READABLE, on_readable);
  return 0;
}

/* Takes what serve() is given. On false the device has what was taken so far. */
static bool take_arguments(napi_env env, const napi_value *argv, struct device *device) {
  size_t slots_size, count;
  if (napi_get_value_int32(env, argv[0], &device->fd) != napi_ok ||
      !borrow(env, argv[1], napi_uint8_array, &device->slots_ref, &device->slots, &slots_size) ||
      !borrow(env, argv[2], napi_uint32_array, &device->lengths_ref, &device->lengths, &count) ||
      !borrow(env, argv[3], napi_uint8_array, &device->reply_ref, &device->reply, &device->reply_size) ||
      !keep_function(env, argv[4], "onRequests", &device->on_requests) ||
      !keep_function(env, argv[4], "onNotified", &device->on_notified) ||
      !keep_function(env, argv[4], "onEnd", &device->on_end) ||
      !keep_function(env, argv[4], "onClosed", &device->on_closed) || count == 0)
    return false;
  device->slot_count = count;
  device->slot_size = slots_size / count;
  return true;
}

/*
 * serve(fd, slots, lengths, reply, { onRequests, onNotified, onEnd, onClosed })
 *   -> { reply, replyWith, notify, close }
 *
 * `slots` is cut into as many equal parts as `lengths` has elements. Takes over the descriptor.
 */
napi_value js_serve(napi_env env, napi_callback_info info) {
  size_t argc = 5;
  napi_value argv[5], receiver, name, object;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  struct device *device = calloc(1, sizeof *device);
  device->env = env;
  atomic_init(&device->references, 1);
  if (!take_arguments(env, argv, device)) {
    forget_javascript(device);
    release(device);
    return throw_type(env, "serve(fd, slots, lengths, reply, callbacks)");
  }
  int error = start_polling(device);
  if (error != 0) {
    forget_javascript(device);
    release(device);
    napi_throw_error(env, uv_err_name(error), "cannot poll /dev/fuse");
    return NULL;
  }
  device->notifier = notifier_create(device->fd, device->notified_fd);
  MUST(napi_create_object(env, &receiver));
  MUST(napi_create_reference(env, receiver, 1, &device->receiver));
  MUST(napi_create_string_utf8(env, "gfs.fusedev", NAPI_AUTO_LENGTH, &name));
  MUST(napi_async_init(env, receiver, name, &device->context));
  MUST(napi_add_async_cleanup_hook(env, on_environment_end, device, &device->cleanup));

  MUST(napi_create_object(env, &object));
  add_function(env, object, "reply", js_reply, device);
  add_function(env, object, "replyWith", js_reply_with, device);
  add_function(env, object, "notify", js_notify, device);
  add_function(env, object, "close", js_close_device, device);
  return object;
}
