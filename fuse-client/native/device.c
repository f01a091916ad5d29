/*
 * /dev/fuse on the event loop.
 *
 * Reading: uv_poll tells that there are requests; they are read into slots of a buffer that
 * JavaScript owns, and handed over a batch at a time with one call. The slots are reused when that
 * call returns, its microtasks included.
 *
 * Replies: one writev(2) each, made at once by the loop's thread. It never blocks: the kernel copies.
 *
 * Notifications (FUSE_NOTIFY_INVAL_*) do block: inside the write the kernel takes locks that are held
 * until a request is answered, maybe one that waits for this process. They have a thread of their own
 * and a bounded queue, and JavaScript hears how many are done. So that even a process that is killed
 * while one blocks comes to an end, the thread has a device and a descriptor table of its own.
 *
 * The end: after close() the notifier finishes the write it is in, which may need requests to be
 * answered still; so reading goes on until it has. Only then are the handles and the descriptor closed.
 * When the environment is torn down first there is nobody to answer: everything is closed at once, which
 * ends the requests, and the notifier goes by itself.
 */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

#include "work.h"

/* Batches handled before the loop's other work gets its turn. */
#define MAX_BATCHES_PER_TURN 8
/* Most buffers of one reply: Linux's UIO_MAXIOV. */
#define MAX_PARTS 1024
#define PARTS_ON_STACK 64
/* Before Linux 5.9 descriptors are closed one by one, up to here. */
#define OLD_KERNEL_DESCRIPTORS 65536
/* Notifications waiting for their thread. One is at most 300 bytes: 5 MiB in all. */
#define MAX_NOTICES 16384

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

struct notice {
  struct notice *next;
  size_t size;
  char bytes[];
};

struct device {
  /* Whoever may still look at this memory: JavaScript's functions, the uv handles, the notifier. */
  atomic_int references;
  int fd;

  napi_env env;
  napi_async_context context;
  napi_ref receiver;
  napi_ref on_requests;
  napi_ref on_notified;
  napi_ref on_end;
  napi_ref on_closed;
  napi_async_cleanup_hook_handle cleanup;

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
  int notified_fd;
  uv_poll_t notified_poll;
  int open_handles;
  bool ended;    /* the kernel closed the connection; JavaScript was told */
  bool closing;  /* close() was called */
  bool torn_down;

  /* Under `mutex`. */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  struct notice *first, *last;
  uint32_t waiting;
  uint32_t notified;
  bool notifier_ready;
  bool notifier_runs;
  bool stop_notifier;
  bool notified_closed;
};

static void retain(struct device *device) { atomic_fetch_add(&device->references, 1); }

static void release(struct device *device) {
  if (atomic_fetch_sub(&device->references, 1) != 1) return;
  for (struct notice *notice = device->first; notice != NULL;) {
    struct notice *next = notice->next;
    free(notice);
    notice = next;
  }
  pthread_mutex_destroy(&device->mutex);
  pthread_cond_destroy(&device->changed);
  free(device);
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
    napi_delete_reference(device->env, references[i]);
  napi_async_destroy(device->env, device->context);
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

/* Closes handles and descriptors. The notifier does not touch them from here on. */
static void shut(struct device *device) {
  if (device->fd < 0) return;
  pthread_mutex_lock(&device->mutex);
  device->notified_closed = true;
  device->stop_notifier = true;
  pthread_cond_signal(&device->changed);
  pthread_mutex_unlock(&device->mutex);
  uv_poll_stop(&device->poll);
  uv_close((uv_handle_t *)&device->poll, on_handle_closed);
  uv_poll_stop(&device->notified_poll);
  uv_close((uv_handle_t *)&device->notified_poll, on_handle_closed);
  close(device->fd);
  close(device->notified_fd);
  device->fd = -1;
}

static void on_environment_end(napi_async_cleanup_hook_handle handle, void *data) {
  struct device *device = data;
  device->torn_down = true;
  shut(device);
}

static void shut_when_idle(struct device *device) {
  pthread_mutex_lock(&device->mutex);
  bool busy = device->notifier_runs;
  pthread_mutex_unlock(&device->mutex);
  /* Busy: the process must live to hear the notifier's last word. */
  if (busy) uv_ref((uv_handle_t *)&device->notified_poll);
  else shut(device);
}

/* close(): JavaScript hears onClosed, maybe after some more requests that it should refuse. */
static napi_value js_close_device(napi_env env, napi_callback_info info) {
  struct device *device;
  MUST(napi_get_cb_info(env, info, NULL, NULL, NULL, (void **)&device));
  if (device->closing || device->fd < 0) return NULL;
  device->closing = true;
  pthread_mutex_lock(&device->mutex);
  device->stop_notifier = true;
  pthread_cond_signal(&device->changed);
  pthread_mutex_unlock(&device->mutex);
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

/* ---- Replies ---- */

static napi_value result(napi_env env, ssize_t written) {
  napi_value value;
  MUST(napi_create_int32(env, written < 0 ? -errno : 0, &value));
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
  errno = EBADF;
  return result(env, device->fd < 0 ? -1 : write(device->fd, device->reply, length));
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

  struct iovec some[PARTS_ON_STACK];
  struct iovec *parts = count < PARTS_ON_STACK ? some : malloc((count + 1) * sizeof *parts);
  parts[0] = (struct iovec){device->reply, length};
  bool valid = true;
  for (uint32_t i = 0; i < count && valid; i++) {
    napi_value buffer;
    napi_typedarray_type type;
    valid = napi_get_element(env, argv[1], i, &buffer) == napi_ok &&
            napi_get_typedarray_info(env, buffer, &type, &parts[i + 1].iov_len, &parts[i + 1].iov_base, NULL,
                                     NULL) == napi_ok &&
            type == napi_uint8_array;
  }
  napi_value value = NULL;
  if (valid) {
    errno = EBADF;
    value = result(env, device->fd < 0 ? -1 : writev(device->fd, parts, (int)count + 1));
  } else {
    throw_type(env, "replyWith: the buffers must be Uint8Arrays");
  }
  if (parts != some) free(parts);
  return value;
}

/* ---- Notifications ---- */

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

/* Tells the loop that something has changed. Under the mutex. */
static void wake_loop(struct device *device) {
  if (!device->notified_closed) eventfd_write(device->notified_fd, 1);
}

/*
 * The notifier's way to the kernel: a second device on the connection, alone in a descriptor table of
 * this thread's own. When the process is killed while a notification blocks, the thread cannot end, and
 * what it shares stays open. The requests that it waits for were read from the first device, which is
 * not shared: its last close ends them, and with that the wait. Without such a device the write still
 * works; only that end is missing.
 */
static int open_own_device(int fd, int notified_fd) {
  if (unshare(CLONE_FILES) < 0) return fcntl(fd, F_DUPFD_CLOEXEC, 0);
  uint32_t connection = fd;
  int own = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (own >= 0 && ioctl(own, FUSE_DEV_IOC_CLONE, &connection) < 0) {
    close(own);
    own = -1;
  }
  if (own < 0) own = fd;
  close_others(own, notified_fd);
  return own;
}

static void *notify_loop(void *data) {
  struct device *device = data;
  int fd = open_own_device(device->fd, device->notified_fd);
  pthread_mutex_lock(&device->mutex);
  device->notifier_ready = true;
  pthread_cond_broadcast(&device->changed);
  pthread_mutex_unlock(&device->mutex);

  pthread_mutex_lock(&device->mutex);
  while (true) {
    while (device->first == NULL && !device->stop_notifier) pthread_cond_wait(&device->changed, &device->mutex);
    if (device->stop_notifier) break;
    struct notice *notice = device->first;
    device->first = notice->next;
    if (device->first == NULL) device->last = NULL;
    device->waiting--;
    pthread_mutex_unlock(&device->mutex);

    /* ENOENT: the kernel does not have it. Other errors: the mount is gone. Nothing to do for either. */
    ssize_t ignored = write(fd, notice->bytes, notice->size);
    (void)ignored;
    free(notice);

    pthread_mutex_lock(&device->mutex);
    device->notified++;
    wake_loop(device);
  }
  device->notifier_runs = false;
  wake_loop(device);
  pthread_mutex_unlock(&device->mutex);
  close(fd);
  release(device);
  return NULL;
}

static void on_notified(uv_poll_t *poll, int status, int events) {
  struct device *device = poll->data;
  eventfd_t wakes;
  eventfd_read(device->notified_fd, &wakes);
  pthread_mutex_lock(&device->mutex);
  uint32_t notified = device->notified;
  pthread_mutex_unlock(&device->mutex);
  call(device, device->on_notified, (int32_t)notified);
  if (device->closing) shut_when_idle(device);
}

/* Starts the thread, at the first notification, and waits until it has its device. Returns an errno. */
static int start_notifier(struct device *device) {
  sigset_t all, before;
  pthread_attr_t attributes;
  pthread_t thread;
  sigfillset(&all);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  retain(device);
  int error = pthread_create(&thread, &attributes, notify_loop, device);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    release(device);
    return error;
  }
  device->notifier_runs = true;
  while (!device->notifier_ready) pthread_cond_wait(&device->changed, &device->mutex);
  return 0;
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
  struct notice *notice = malloc(sizeof *notice + size);
  notice->next = NULL;
  notice->size = size;
  memcpy(notice->bytes, bytes, size);

  int error = 0;
  pthread_mutex_lock(&device->mutex);
  if (device->fd < 0 || device->stop_notifier) error = EBADF;
  else if (device->waiting >= MAX_NOTICES) error = EAGAIN;
  else if (!device->notifier_runs) error = start_notifier(device);
  if (error == 0) {
    if (device->last == NULL) device->first = notice;
    else device->last->next = notice;
    device->last = notice;
    device->waiting++;
    pthread_cond_signal(&device->changed);
  }
  pthread_mutex_unlock(&device->mutex);
  if (error != 0) free(notice);
  errno = error;
  return result(env, error == 0 ? 0 : -1);
}

/* ---- The beginning ---- */

static void release_function(napi_env env, void *data, void *hint) { release(data); }

static void add_function(napi_env env, napi_value object, const char *name, napi_callback function,
                         struct device *device) {
  napi_value value;
  MUST(napi_create_function(env, name, NAPI_AUTO_LENGTH, function, device, &value));
  retain(device);
  MUST(napi_add_finalizer(env, value, device, release_function, NULL, NULL));
  MUST(napi_set_named_property(env, object, name, value));
}

/* A typed array of the wanted type that stays where it is as long as the reference lives. */
static bool borrow(napi_env env, napi_value value, napi_typedarray_type wanted, napi_ref *reference, void **bytes,
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
  return uv_poll_start(&device->poll, UV_READABLE, on_readable);
}

/*
 * serve(fd, slots, lengths, reply, { onRequests, onNotified, onEnd, onClosed })
 *   -> { reply, replyWith, notify, close }
 *
 * `slots` is cut into as many equal parts as `lengths` has elements. Takes over the descriptor.
 */
napi_value js_serve(napi_env env, napi_callback_info info) {
  size_t argc = 5, slots_size, count;
  napi_value argv[5], receiver, name, object;
  int32_t fd;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  struct device *device = calloc(1, sizeof *device);
  if (argc < 5 || napi_get_value_int32(env, argv[0], &fd) != napi_ok ||
      !borrow(env, argv[1], napi_uint8_array, &device->slots_ref, (void **)&device->slots, &slots_size) ||
      !borrow(env, argv[2], napi_uint32_array, &device->lengths_ref, (void **)&device->lengths, &count) ||
      !borrow(env, argv[3], napi_uint8_array, &device->reply_ref, (void **)&device->reply, &device->reply_size) ||
      !keep_function(env, argv[4], "onRequests", &device->on_requests) ||
      !keep_function(env, argv[4], "onNotified", &device->on_notified) ||
      !keep_function(env, argv[4], "onEnd", &device->on_end) ||
      !keep_function(env, argv[4], "onClosed", &device->on_closed) || count == 0)
    return throw_type(env, "serve(fd, slots, lengths, reply, callbacks)");
  device->slot_count = count;
  device->slot_size = slots_size / count;
  device->fd = fd;
  device->env = env;
  atomic_init(&device->references, 1);
  pthread_mutex_init(&device->mutex, NULL);
  pthread_cond_init(&device->changed, NULL);
  MUST(napi_create_object(env, &receiver));
  MUST(napi_create_reference(env, receiver, 1, &device->receiver));
  MUST(napi_create_string_utf8(env, "gfs.fusedev", NAPI_AUTO_LENGTH, &name));
  MUST(napi_async_init(env, receiver, name, &device->context));
  int error = start_polling(device);
  if (error != 0) {
    forget_javascript(device);
    release(device);
    napi_throw_error(env, uv_err_name(error), "cannot poll /dev/fuse");
    return NULL;
  }

  MUST(napi_create_object(env, &object));
  add_function(env, object, "reply", js_reply, device);
  add_function(env, object, "replyWith", js_reply_with, device);
  add_function(env, object, "notify", js_notify, device);
  add_function(env, object, "close", js_close_device, device);
  MUST(napi_add_async_cleanup_hook(env, on_environment_end, device, &device->cleanup));
  return object;
}
