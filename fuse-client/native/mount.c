/*
 * Mounting and unmounting. Root calls mount(2) with a descriptor of /dev/fuse; everybody else asks
 * the set-user-ID program fusermount3, which opens the device, mounts it, and passes the descriptor
 * back over a socket.
 */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

struct mount_work {
  struct work base;
  char *source;
  char *directory;
  char *type;
  char *options;
  char *helper;
  unsigned long flags;
  /* The helper stays to unmount when this process dies: keep its socket, do not wait for it. */
  bool helper_stays;
  int fd;
  int helper_socket;
};

static void free_mount(struct work *base) {
  struct mount_work *work = (struct mount_work *)base;
  free(work->source);
  free(work->directory);
  free(work->type);
  free(work->options);
  free(work->helper);
  free(work);
}

static struct mount_work *new_mount(void (*run)(struct work *)) {
  struct mount_work *work = calloc(1, sizeof *work);
  work->base.run = run;
  work->base.dispose = free_mount;
  work->fd = -1;
  work->helper_socket = -1;
  return work;
}

static napi_value set_int(napi_env env, napi_value object, const char *name, int number) {
  napi_value value;
  MUST(napi_create_int32(env, number, &value));
  MUST(napi_set_named_property(env, object, name, value));
  return object;
}

static napi_value mounted(napi_env env, struct work *base) {
  struct mount_work *work = (struct mount_work *)base;
  napi_value object;
  MUST(napi_create_object(env, &object));
  set_int(env, object, "fd", work->fd);
  return set_int(env, object, "helperSocket", work->helper_socket);
}

static void run_mount(struct work *base) {
  struct mount_work *work = (struct mount_work *)base;
  int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    work_fail(base, "open /dev/fuse");
    return;
  }
  char *options;
  if (asprintf(&options, "fd=%d,%s", fd, work->options) < 0) abort();
  if (mount(work->source, work->directory, work->type, work->flags, options) < 0) {
    work_fail(base, "mount");
    close(fd);
  } else {
    work->fd = fd;
  }
  free(options);
}

/* mount(source, directory, type, flags, options) -> Promise<{ fd, helperSocket: -1 }> */
napi_value js_mount(napi_env env, napi_callback_info info) {
  size_t argc = 5;
  napi_value argv[5];
  uint32_t flags;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  if (argc < 5 || napi_get_value_uint32(env, argv[3], &flags) != napi_ok)
    return throw_type(env, "mount(source, directory, type, flags, options)");
  struct mount_work *work = new_mount(run_mount);
  work->base.result = mounted;
  work->flags = flags;
  if ((work->source = copy_string(env, argv[0])) == NULL || (work->directory = copy_string(env, argv[1])) == NULL ||
      (work->type = copy_string(env, argv[2])) == NULL || (work->options = copy_string(env, argv[4])) == NULL) {
    free_mount(&work->base);
    return NULL;
  }
  return work_start(env, &work->base);
}

/* Starts the helper with one end of `sockets` as descriptor 3 and its complaints going to `complaints`. */
static int spawn_helper(struct mount_work *work, const int sockets[2], const int complaints[2], pid_t *pid) {
  char *argv[] = {work->helper, "-o", work->options, "--", work->directory, NULL};
  char *environment[] = {"_FUSE_COMMFD=3", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, complaints[1], STDERR_FILENO);
  posix_spawn_file_actions_adddup2(&actions, sockets[1], 3);
  int error = posix_spawn(pid, work->helper, &actions, NULL, argv, environment);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

/* Waits for the descriptor; -1 when the helper went away without sending one. */
static int receive_descriptor(int socket) {
  char byte, control[CMSG_SPACE(sizeof(int))];
  struct iovec part = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t size;
  do size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  struct cmsghdr *header = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
  if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return -1;
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

/* Reads what the helper had to say, without its trailing newline. */
static void read_complaints(int fd, char *text, size_t capacity) {
  size_t length = 0;
  while (length < capacity - 1) {
    ssize_t size = read(fd, text + length, capacity - 1 - length);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    length += size;
  }
  while (length > 0 && text[length - 1] == '\n') length--;
  text[length] = '\0';
}

static void reap(pid_t pid) {
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
}

static void run_helper(struct work *base) {
  struct mount_work *work = (struct mount_work *)base;
  int sockets[2], complaints[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) {
    work_fail(base, "socketpair");
    return;
  }
  if (pipe2(complaints, O_CLOEXEC) < 0) {
    work_fail(base, "pipe2");
    close(sockets[0]);
    close(sockets[1]);
    return;
  }
  pid_t pid;
  int error = spawn_helper(work, sockets, complaints, &pid);
  close(sockets[1]);
  close(complaints[1]);
  if (error != 0) {
    errno = error;
    work_fail(base, work->helper);
    close(sockets[0]);
    close(complaints[0]);
    return;
  }
  work->fd = receive_descriptor(sockets[0]);
  if (work->fd < 0) {
    read_complaints(complaints[0], base->message, sizeof base->message);
    errno = EPERM;
    work_fail(base, "fusermount3");
  } else {
    fcntl(work->fd, F_SETFL, fcntl(work->fd, F_GETFL) | O_NONBLOCK);
  }
  close(complaints[0]);
  if (work->fd >= 0 && work->helper_stays) {
    work->helper_socket = sockets[0];
    return;
  }
  close(sockets[0]);
  reap(pid);
}

/* mountByHelper(helper, directory, options, helperStays) -> Promise<{ fd, helperSocket }> */
napi_value js_mount_by_helper(napi_env env, napi_callback_info info) {
  size_t argc = 4;
  napi_value argv[4];
  bool helper_stays;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  if (argc < 4 || napi_get_value_bool(env, argv[3], &helper_stays) != napi_ok)
    return throw_type(env, "mountByHelper(helper, directory, options, helperStays)");
  struct mount_work *work = new_mount(run_helper);
  work->base.result = mounted;
  work->helper_stays = helper_stays;
  if ((work->helper = copy_string(env, argv[0])) == NULL || (work->directory = copy_string(env, argv[1])) == NULL ||
      (work->options = copy_string(env, argv[2])) == NULL) {
    free_mount(&work->base);
    return NULL;
  }
  return work_start(env, &work->base);
}

static void run_unmount(struct work *base) {
  struct mount_work *work = (struct mount_work *)base;
  if (umount2(work->directory, work->flags) < 0) work_fail(base, "umount2");
}

/* unmount(directory, flags) -> Promise<void> */
napi_value js_unmount(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  uint32_t flags;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  if (argc < 2 || napi_get_value_uint32(env, argv[1], &flags) != napi_ok)
    return throw_type(env, "unmount(directory, flags)");
  struct mount_work *work = new_mount(run_unmount);
  work->flags = flags;
  if ((work->directory = copy_string(env, argv[0])) == NULL) {
    free_mount(&work->base);
    return NULL;
  }
  return work_start(env, &work->base);
}

/* close(fd): of a descriptor that mount or mountByHelper returned and that is not being served. */
napi_value js_close(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1];
  int32_t fd;
  MUST(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  if (argc < 1 || napi_get_value_int32(env, argv[0], &fd) != napi_ok) return throw_type(env, "close(fd)");
  close(fd);
  return NULL;
}
